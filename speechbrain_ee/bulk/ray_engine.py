# SPDX-License-Identifier: Apache-2.0
"""What runs batches: workers on a Ray cluster, by Ray Data, which schedules them and repeats lost batches."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ee_runtime.errors import one_line
from speechbrain_ee.bulk.engines import Work

CONNECT_S = 10.0


class RayWorker:
    """The callable class of Ray Data: opens the model with the first row, and runs one task per row.

    An error that the user can fix is a result, since Ray would add tracebacks of several processes to it.

    Arguments
    ---------
    work : Work
        Says how to open the model.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> worker = RayWorker(SimpleNamespace(open=lambda: len))
    >>> worker({"position": 0, "task": '["a.wav", "b.wav"]'})
    {'position': 0, 'result': '2', 'error': ''}
    """

    def __init__(self, work: Work):
        self._work = work
        self._function: Callable[[Any], Any] | None = None

    def __call__(self, row: dict) -> dict:
        """Run a task; task and result are JSON, so that Arrow does not change their types."""
        result, error = None, ""
        try:
            if self._function is None:
                self._function = self._work.open()
            result = self._function(json.loads(row["task"]))
        except (ValueError, OSError, ImportError, MemoryError) as found:
            error = one_line(found)
        return {"position": row["position"], "result": json.dumps(result), "error": error}


@dataclass(frozen=True)
class RayCluster:
    """Runs tasks on a Ray cluster. Models and audio files must have the same paths on every node.

    Arguments
    ---------
    address : str | None
        Address of the cluster, such as ``auto`` or ``host:6379``; None means ``RAY_ADDRESS``, or else a new Ray on this
        machine.
    workers : int | None
        Workers, each with its own model; None means as many as the cluster has room for.
    cpus : int
        CPUs of each worker, which are its threads.
    gpus : int
        GPUs of each worker.

    Raises
    ------
    ImportError
        If Ray is not installed.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: int = 0

    def __post_init__(self):
        if find_spec("ray") is None:
            raise ImportError("--engine ray needs Ray: pip install 'speechbrain_ee[ray]'")

    def __call__(self, work: Work, tasks: Sequence) -> Iterator[tuple[int, Any]]:
        """Run the tasks; if a worker or its node dies, Ray runs its task again on another one.

        Yields
        ------
        tuple
            Position and result of each task.

        Raises
        ------
        ValueError
            If the cluster cannot be reached, has no room for a worker or fails, or a worker cannot open the model.
        """
        if not tasks:
            return
        ray = _imported_ray()
        try:
            self._connect(ray)
            yield from self._results(ray, work, tasks)
        except (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException):
            raise  # a bug
        except ray.exceptions.RayError as error:
            raise ValueError(
                f"the Ray cluster failed ({one_line(error)[:500]}): run the same command again to resume"
            ) from error
        finally:
            ray.shutdown()

    def _connect(self, ray) -> None:
        address = self.address or os.environ.get("RAY_ADDRESS")
        try:
            _check_reachable(address)
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="error")
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"Ray cannot be used at {address or 'this machine'} ({one_line(error)}): give the --address that ray "
                "start printed"
            ) from None

    def _results(self, ray, work: Work, tasks: Sequence) -> Iterator[tuple[int, Any]]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"position": position, "task": json.dumps(task)} for position, task in enumerate(tasks)]
        # One block per task: a block is what Ray sends to a worker, repeats, and returns.
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayWorker,
            fn_constructor_args=(work,),
            compute=ray.data.ActorPoolStrategy(size=min(len(tasks), self._num_workers(ray))),
            num_cpus=self.cpus,
            num_gpus=self.gpus,
        )
        with closing(iter(dataset.iter_rows())) as done:  # ends the work before Ray is shut down
            for row in done:
                if row["error"]:
                    raise ValueError(f"a worker on the Ray cluster failed: {row['error']}")
                yield row["position"], json.loads(row["result"])

    def _num_workers(self, ray) -> int:
        room = [
            min(
                int(node["Resources"].get(kind, 0) // each)
                for kind, each in (("CPU", self.cpus), ("GPU", self.gpus))
                if each
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
        if not sum(room):
            raise ValueError(
                f"no node of the Ray cluster has {self.cpus} CPUs and {self.gpus} GPUs for a worker: give fewer "
                "--threads, or another --device"
            )
        return self.workers or sum(room)


def _check_reachable(address: str | None) -> None:
    """Connect once to ``host:port``, since Ray tries for many minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


def _imported_ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its authors
    try:
        import ray.data
    except ImportError as error:  # without the libraries of Ray Data
        raise ImportError(f"--engine ray cannot import Ray ({error}): pip install 'speechbrain_ee[ray]'") from None
    return ray
