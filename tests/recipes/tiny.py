# SPDX-License-Identifier: Apache-2.0
"""A corpus of tones, options for a tiny model, and train.py in a separate process."""

import json
import multiprocessing
import os
import runpy
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]
RATE = 16000
# All modules that train.py and speechbrain-ee import, also those that they import late.
PRELOAD = [
    "recipes.tiny",
    "train",
    "speechbrain_ee.cli.app",
    "torch._dynamo",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
]
# Every word is a tone, in Hz, so that a model can learn the words.
WORDS = {"a": 300, "no": 500, "go": 800, "hi": 1200, "ox": 1900, "in": 3000}
WORD_S = 0.3
VOCAB_SIZE = 11  # <unk>, BOS, EOS, the space and 7 letters
SPLITS = {"train": 24, "dev": 6, "test": 5}
OPTIONS = {
    "device": "cpu",
    "prepare": "null",
    "token_type": "char",
    "vocab_size": VOCAB_SIZE,
    "alphabet": "",
    "n_mels": 20,
    "num_layers": 3,
    "exit_layers": "[1, 2, 3]",
    "d_model": 16,
    "nhead": 2,
    "d_ffn": 24,
    "kernel_size": 5,
    "channels": "[4, 4, 4]",
    "number_of_epochs": 3,
    "warmup_steps": 3,
    "lr": 0.01,
    "max_batch_seconds": 3.5,
    "num_buckets": 2,
    "num_workers": 1,
    "cache_audio": False,
    "ckpt_interval_minutes": 0,
}
SAVING_OFTEN = {"ckpt_interval_steps": 2, "test_manifests": "[]"}


def write_corpus(folder):
    """Write the wavs and ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``; returns the folder."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in SPLITS.items():
        rows = []
        for number in range(count):
            words = [str(word) for word in rng.choice(list(WORDS), size=rng.integers(2, 5))]
            if number == 0:
                words = list(WORDS)  # all letters
            waveform = speak(words, rng)
            name = f"{split}{number:02}"
            soundfile.write(folder / f"{name}.wav", waveform, RATE)
            rows.append(
                {
                    "id": name,
                    "audio_filepath": f"{name}.wav",
                    "duration": len(waveform) / RATE,
                    "text": " ".join(words),
                    "speaker": f"s{number % 2}",
                }
            )
        write_rows(folder / f"{split}.jsonl", rows)
    return folder


def speak(words, rng):
    """Return a waveform with a tone per word, plus noise."""
    time_s = np.arange(int(WORD_S * RATE)) / RATE
    tones = [0.3 * np.sin(2 * np.pi * WORDS[word] * time_s) * np.hanning(len(time_s)) for word in words]
    waveform = np.concatenate(tones)
    return waveform + 0.01 * rng.standard_normal(len(waveform))


def read_rows(path):
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def write_rows(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def arguments(corpus, run, yaml="conformer_ee", **options):
    """Return a command line of train.py; ``options`` override OPTIONS, and None removes an option."""
    paths = {"output_folder": run, "train_manifest": corpus / "train.jsonl", "valid_manifest": corpus / "dev.jsonl"}
    merged = {**paths, "test_manifests": f"[{corpus / 'test.jsonl'}]", **OPTIONS, **options}
    flags = ["--noprogressbar"]
    for name, value in merged.items():
        if value is not None:
            flags += [f"--{name}", str(value)]
    return [str(ROOT / "hparams" / f"{yaml}.yaml"), *flags]


@dataclass
class Ended:
    """Exit status and output of a finished process."""

    status: int  # as in subprocess: negative for a signal
    stdout: str
    stderr: str

    @property
    def error_lines(self):
        """Return the lines of standard error without SpeechBrain's message at import."""
        return [line for line in self.stderr.strip().splitlines() if not line.startswith("torchvision is not")]


class Training:
    """train.py in a separate process, which is forked from one that has imported all modules.

    ``sabotage`` is called in the process before train.py starts. ``script`` is another script, run in its folder, or a
    module, as of ``python -m``.
    """

    _context = None

    def __init__(self, argv, folder, sabotage=None, script=ROOT / "train.py"):
        if Training._context is None:
            os.environ["OMP_NUM_THREADS"] = "1"  # more threads than cores are very slow
            Training._context = multiprocessing.get_context("forkserver")
            Training._context.set_forkserver_preload(PRELOAD)
        folder.mkdir(parents=True, exist_ok=True)
        self.outputs = [folder / "stdout.txt", folder / "stderr.txt"]
        self.process = Training._context.Process(target=_run, args=(script, argv, *self.outputs, sabotage))
        self.process.start()

    def wait(self, timeout_s=100):
        self.process.join(timeout_s)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"train.py ran for more than {timeout_s} s")
        return Ended(self.process.exitcode, *(path.read_text("utf-8") for path in self.outputs))


def train(argv, folder, sabotage=None, script=ROOT / "train.py"):
    """Run train.py, or another script, to its end."""
    return Training(argv, folder, sabotage, script).wait()


def command(folder, *words):
    """Run ``speechbrain-ee`` with these words to its end."""
    return train([str(word) for word in words], folder, script="speechbrain_ee.cli")


def _run(script, argv, stdout, stderr, sabotage):
    # Python's default for data loader processes; the fork server sets another start method.
    multiprocessing.set_start_method("fork", force=True)
    is_module = isinstance(script, str)
    folder = ROOT if is_module else script.parent
    os.chdir(folder)
    sys.path.insert(0, str(folder))  # as the interpreter does
    for path, number in ((stdout, 1), (stderr, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    if sabotage is not None:
        sabotage()
    sys.argv = [str(script) if is_module else script.name, *argv]
    try:
        if is_module:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(script), run_name="__main__")
    except Exception as error:  # handle it like the interpreter; multiprocessing would print it in its own format
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


def curve(run):
    """Return the lines of the training log: losses, WERs, learning rates and steps of each epoch."""
    return (run / "train_log.txt").read_text("utf-8").splitlines()


def weights(run):
    return (run / "model.safetensors").read_bytes()


# Functions for ``sabotage``. They are at module level so that they can be pickled.


def kill_at(epoch, step):
    """Kill the process with SIGKILL after a training step."""
    _at(epoch, step, lambda: os.kill(os.getpid(), signal.SIGKILL))


def fail_at(epoch, step):
    """Raise an exception like one of a bug."""

    def fail():
        raise RuntimeError("shapes do not fit")

    _at(epoch, step, fail)


def press_ctrl_c_at(epoch, step):
    """Interrupt this process and its children after a training step, as a terminal does."""
    # Python installs no handler if the signal is ignored at its start, as under nohup or `&`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    _at(epoch, step, lambda: os.killpg(os.getpgid(0), signal.SIGINT))


def make_gradient_infinite_at(epoch, step):
    """Make the loss of a step finite and its gradient infinite."""
    from speechbrain_ee.training.brain import ExitBrain

    original = ExitBrain.compute_objectives

    def objectives(self, predictions, batch, stage):
        loss = original(self, predictions, batch, stage)
        if (self.hparams.epoch_counter.current, self.step) == (epoch, step):
            zero = (loss - loss.detach()).abs()
            loss = loss + zero.sqrt() - zero.sqrt().detach()
        return loss

    ExitBrain.compute_objectives = objectives


def _at(epoch, step, action):
    from speechbrain_ee.training.brain import ExitBrain

    original = ExitBrain.on_fit_batch_end

    def batch_end(self, *args):
        original(self, *args)
        if (self.hparams.epoch_counter.current, self.step) == (epoch, step):
            action()

    ExitBrain.on_fit_batch_end = batch_end
