# SPDX-License-Identifier: Apache-2.0
"""Run train.py as one or several processes, and record the loss and the utterances of every batch.

torchrun itself is used in test_train.py; processes that are forked from one with all modules start faster.
"""

import json
import os
import socket
from functools import partial

from recipes.tiny import Training


def train_on(num_processes, argv, folder):
    """Train, and return for each process a list of (loss, ids), one per batch."""
    port = _free_port()
    places = [(rank, num_processes, port, folder / f"batches{rank}.jsonl") for rank in range(num_processes)]
    argv = [*argv, "--distributed_backend", "gloo"] if num_processes > 1 else argv
    trainings = [Training(argv, folder / f"rank{place[0]}", partial(_begin, *place)) for place in places]
    ended = [training.wait() for training in trainings]
    assert [one.status for one in ended] == [0] * num_processes, "\n".join(one.stderr for one in ended)
    return [[json.loads(line) for line in place[-1].read_text("utf-8").splitlines()] for place in places]


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _begin(rank, num_processes, port, path):
    if num_processes > 1:
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in variables.items()} | {"MASTER_ADDR": "127.0.0.1"}

    from speechbrain_ee.training.brain import ExitBrain

    original = ExitBrain.fit_batch

    def fit_batch(self, batch):
        loss = original(self, batch)
        with open(path, "a") as file:
            file.write(json.dumps([loss.item(), batch.id]) + "\n")
        return loss

    ExitBrain.fit_batch = fit_batch
