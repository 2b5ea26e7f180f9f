# SPDX-License-Identifier: Apache-2.0
"""Settings and checks before torch is imported."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ee_runtime.threads import available_cpus
from speechbrain_ee import startup
from speechbrain_ee.startup import check_torchaudio, prepare_process

ROOT = Path(__file__).parents[2]
OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
PRINT = "import os; from speechbrain_ee.startup import prepare_process; prepare_process({})\n" + (
    f"import torch; print(*(os.environ.get(name) for name in {OPENMP}), torch.get_num_threads())"
)

# Compatible versions of torchaudio and torch, tested with the wheels of PyPI on Linux.
TORCH = ("2.9.1", "2.10.0", "2.11.0", "2.12.0", "2.12.1", "2.13.0", "2.14.1", "2.15.0")
LOADS = {
    "2.9.1": {"2.9.1"},
    "2.10.0": {"2.10.0"},
    "2.11.0": {"2.11.0", "2.12.0", "2.12.1", "2.13.0", "2.14.1"},
    "2.11.1": {"2.13.0", "2.14.1", "2.15.0"},
}
ASKS_FOR = {"2.9.1": "torch==2.9.1", "2.10.0": "torch==2.10.0", "2.11.0": "torch", "2.11.1": "torch>=2.11"}


def settings(argument="", **environment):
    clean = {name: value for name, value in os.environ.items() if name not in OPENMP}
    command = [sys.executable, "-c", PRINT.format(argument)]
    done = subprocess.run(command, env=clean | environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def requirement(name):
    tree = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    wanted = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    (found,) = [one for one in wanted if one.startswith(f"{name}>=")]
    return Requirement(found).specifier


def test_threads_and_their_waiting_are_set_before_torch_is_imported():
    assert settings() == [str(available_cpus()), "None", startup.SPIN_COUNT, str(available_cpus())]
    assert settings("threads=1")[0] == settings("threads=1")[3] == "1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, ["1", "None", startup.SPIN_COUNT, "1"]),
        ({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "ACTIVE"}, ["1", "ACTIVE", "None", "1"]),
        ({"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "7"}, ["1", "None", "7", "1"]),
    ],
)
def test_what_the_user_has_set_is_left_alone(given, expected):
    assert settings(**given) == expected


def test_a_limit_on_the_cpus_of_a_process_is_a_limit_on_threads():
    if hasattr(os, "sched_getaffinity"):
        one = min(os.sched_getaffinity(0))
        code = f"import os; os.sched_setaffinity(0, [{one}])\n" + PRINT.format("")
        clean = {name: value for name, value in os.environ.items() if name not in OPENMP}
        done = subprocess.run([sys.executable, "-c", code], env=clean, cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.split()[3] == "1"


@pytest.mark.parametrize("threads", [0, -2])
def test_a_number_of_threads_below_1_is_refused(threads):
    with pytest.raises(ValueError, match=f"^threads={threads}: give 1 or more$"):
        prepare_process(threads)


@pytest.mark.parametrize("torchaudio", LOADS)
def test_every_pair_of_torch_and_torchaudio_that_pip_can_choose_loads(torchaudio):
    if not requirement("torchaudio").contains(torchaudio):
        return
    own = Requirement(ASKS_FOR[torchaudio]).specifier
    chosen = {torch for torch in TORCH if requirement("torch").contains(torch) and own.contains(torch)}
    assert chosen and chosen <= LOADS[torchaudio]


def test_the_pair_that_is_locked_loads():
    lock = (ROOT / "locks" / "run.txt").read_text("utf-8").splitlines()
    torch, torchaudio = (
        next(line.split("==")[1].split()[0] for line in lock if line.startswith(f"{name}=="))
        for name in ("torch", "torchaudio")
    )
    assert torch in LOADS[torchaudio]


@pytest.mark.parametrize(
    ("torch", "remedy"),
    [
        ("2.9.1", "pip install 'torchaudio==2.9.*'"),
        ("2.11.0", "pip install torchaudio==2.11.0, which loads with torch 2.11.0, or pip install -U torch torchaudio"),
        ("2.14.1", "pip install -U torch torchaudio"),
        ("2.13.0+cpu", "install torch and torchaudio in one command from the index that torch 2.13.0+cpu came from"),
    ],
)
def test_a_pair_that_does_not_fit_is_named_with_what_to_install(monkeypatch, torch, remedy):
    def fail(name):
        raise OSError("undefined symbol: torch_exception_get_what_without_backtrace\nmore")

    monkeypatch.setattr(startup.importlib, "import_module", fail)
    monkeypatch.setattr(startup, "version", lambda name: {"torch": torch, "torchaudio": "2.11.1"}[name])
    with pytest.raises(ImportError) as caught:
        check_torchaudio()
    reason = "undefined symbol: torch_exception_get_what_without_backtrace"
    assert str(caught.value) == f"torchaudio 2.11.1 does not load with torch {torch} ({reason}): {remedy}"


@pytest.mark.parametrize(
    "program",
    [
        ["train.py", "hparams/conformer_ee.yaml"],
        ["recipes/LibriSpeech/train_lm.py", "recipes/LibriSpeech/hparams/lm.yaml"],
        ["benchmarks/policy_speed.py", "results"],
        ["-m", "speechbrain_ee.cli", "transcribe", "--model", "results", "a.wav"],
        ["-m", "speechbrain_ee.cli", "report", "results"],
    ],
)
def test_programs_say_it_in_one_line(tmp_path, program):
    (tmp_path / "torchaudio.py").write_text("raise OSError('/x/_torchaudio.so: undefined symbol: some_symbol')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, *program]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "does not load with torch" in done.stderr
