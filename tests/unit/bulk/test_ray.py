# SPDX-License-Identifier: Apache-2.0
"""Batches on a Ray cluster of two nodes of one CPU on this machine, whose processes are killed."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from unit.bulk.cases import Killing, wait_for
from unit.bulk.test_transcribe import recorded

from speechbrain_ee.bulk.ray_engine import RayCluster, RayWorker

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

PORT = 6397


def start(*arguments):
    """Start a node of one CPU, and return its process, which ends with the node."""
    # What the workers import: this checkout and its tests.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *arguments]
    options = ["--object-store-memory=100000000", "--disable-usage-stats"]
    node = subprocess.Popen([*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert any(b"Ray runtime started" in line for line in node.stdout), f"the node {arguments} ended"
    return node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={tmp_path_factory.mktemp('ray')}"]
    nodes = []
    try:
        for arguments in (head, [f"--address=127.0.0.1:{PORT}"]):
            nodes.append(start(*arguments))
        yield RayCluster(address=f"127.0.0.1:{PORT}")
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(timeout=100)


@dataclass(frozen=True)
class KillingANode(Killing):
    """Work that kills the second node; the first waits for it."""

    def open(self):
        import ray

        function = super(Killing, self).open()
        own = ray.get_runtime_context().get_node_id() if ray.is_initialized() else None
        head = [node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"]] if own else []

        def run(paths):
            if own in head:
                assert wait_for((self.folder / "killed").exists, seconds=100)
            elif own and not (self.folder / "killed").exists():
                (self.folder / "killed").touch()
                os.kill(os.getppid(), signal.SIGKILL)  # the node's own process
            return function(paths)

        run.model, run.limits, run.settings = function.model, function.limits, function.settings
        return run


@dataclass(frozen=True)
class Broken:
    """Work whose model cannot be opened."""

    def open(self):
        raise ValueError("the model\nis broken")


def test_a_worker_answers_with_an_error_of_the_user():
    assert RayWorker(Broken())({"position": 3, "task": "[]"}) == {
        "position": 3,
        "result": "null",
        "error": "the model is broken",
    }


def test_a_cluster_that_is_not_there_is_one_line():
    with pytest.raises(ValueError, match="Ray cannot be used at 127.0.0.1:1 .*give the --address"):
        list(RayCluster(address="127.0.0.1:1")(Broken(), [[]]))


def test_a_model_that_a_worker_cannot_open_is_one_line(cluster):
    with pytest.raises(ValueError, match="^a worker on the Ray cluster failed: the model is broken$"):
        list(cluster(Broken(), [[], []]))


def test_workers_that_no_node_has_room_for(cluster):
    with pytest.raises(ValueError, match="no node of the Ray cluster has 64 CPUs and 0 GPUs for a worker"):
        list(RayCluster(address=cluster.address, cpus=64)(Broken(), [[]]))


@pytest.mark.parametrize("kind", [Killing, KillingANode])  # the node last: it does not come back
def test_nothing_is_lost_or_repeated_when_a_worker_or_a_node_is_killed(
    cluster, transcribe, whole, tmp_path, work, kind
):
    out = tmp_path / "out" / "texts.jsonl"
    out.parent.mkdir()
    killing = kind(work.options, folder=Path(out.parent), after=1)
    transcribe(out, work=killing, engine=cluster)
    assert (out.parent / "killed").exists()
    assert out.read_bytes() == whole
    assert set(recorded(out).values()) == {1}
