# SPDX-License-Identifier: Apache-2.0
"""Run train.py as one or several processes, and record what every process trains on and what it has learned.

torchrun itself is used once, in test_train.py; processes that are forked from one with all modules start faster.
"""

import hashlib
import json
import os
import socket
from functools import partial
from pathlib import Path

import speechbrain as sb
from recipes.tiny import SAVING_OFTEN, Training, arguments

# One bucket with four utterances per batch gives six batches, an even number for two processes.
TWO_PROCESSES = {
    **SAVING_OFTEN,
    "distributed_backend": "gloo",
    "max_batch_seconds": 100,
    "max_batch_size": 4,
    "num_buckets": 1,
    "number_of_epochs": 2,
}


def train_on(num_processes, argv, folder):
    """Train, and return for each process a list of (loss, ids), one per batch."""
    argv = [*argv, "--distributed_backend", "gloo"] if num_processes > 1 else argv
    files = [folder / f"batches{rank}.jsonl" for rank in range(num_processes)]
    _run_on(argv, folder, [partial(record_batches, file) for file in files])
    return [[json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in files]


def train_on_two(corpus, run, **options):
    """Train on two processes, and return for each what record_epochs has written."""
    _run_on(arguments(corpus, run, **TWO_PROCESSES | options), run.parent / "output", [record_epochs] * 2)
    return epochs_of(run)


def epochs_of(run):
    """Return for each of two processes the utterances of every epoch and a digest of the weights after training."""
    return [json.loads((run / f"rank{rank}.json").read_text("utf-8")) for rank in (0, 1)]


def record_batches(path):
    """Write the loss and the utterances of every batch of this process."""
    from speechbrain_ee.training.brain import ExitBrain

    original = ExitBrain.fit_batch

    def fit_batch(self, batch):
        loss = original(self, batch)
        with open(path, "a") as file:
            file.write(json.dumps([loss.item(), batch.id]) + "\n")
        return loss

    ExitBrain.fit_batch = fit_batch


def record_epochs():
    """Write the utterances of every epoch and a digest of the weights of this process into the run folder."""
    from speechbrain_ee.training.brain import ExitBrain

    forward, stage_end, seen = ExitBrain.compute_forward, ExitBrain.on_stage_end, {}

    def compute_forward(self, batch, stage):
        if stage == sb.Stage.TRAIN:
            seen.setdefault(self.hparams.epoch_counter.current, []).extend(batch.id)
        return forward(self, batch, stage)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        stage_end(self, stage, stage_loss, epoch)
        if stage == sb.Stage.VALID:
            digest = hashlib.sha256()
            for value in self.modules.state_dict().values():
                digest.update(value.numpy().tobytes())
            path = Path(self.hparams.output_folder) / f"rank{os.environ['RANK']}.json"
            path.write_text(json.dumps({"seen": seen, "weights": digest.hexdigest()}))

    ExitBrain.compute_forward, ExitBrain.on_stage_end = compute_forward, on_stage_end


def _run_on(argv, folder, records):
    """Train to the end on one process per function of ``records``, which is called before train.py starts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    trainings = []
    for rank, record in enumerate(records):
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(records), "MASTER_PORT": port}
        variables = variables | {"MASTER_ADDR": "127.0.0.1"} if len(records) > 1 else {}
        trainings.append(Training(argv, folder / f"rank{rank}", partial(_begin, variables, record)))
    ended = [training.wait() for training in trainings]
    assert [one.status for one in ended] == [0] * len(records), "\n".join(one.stderr for one in ended)


def _begin(variables, record):
    os.environ |= {name: str(value) for name, value in variables.items()}
    record()
