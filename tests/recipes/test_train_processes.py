# SPDX-License-Identifier: Apache-2.0
"""Two processes train like one process on the same utterances per optimizer step."""

import os
import re

import pytest
import torch
from recipes.processes import train_on
from recipes.tiny import arguments, curve, read_rows, write_corpus, write_rows
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="fork")

# Differences of the order of summation only (float32); they grow from step to step.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
# SpecAugment is left out: its random numbers differ between processes.
OPTIONS = {
    "max_batch_seconds": 100,
    "num_buckets": 1,
    "spec_augment": "[]",
    "number_of_epochs": 2,
    "num_workers": 0,
    "test_manifests": "[]",
    "exit_layers": "[1, 3]",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a corpus with an odd number of training utterances, 23."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"))
    write_rows(folder / "train.jsonl", read_rows(folder / "train.jsonl")[:-1])
    return folder


def weights_of(folder):
    """Return the weights, without the biases of attention keys, whose true gradient is 0: Adam follows rounding."""
    state = load_file(folder / "run" / "model.safetensors")
    for name, value in state.items():
        if name.endswith("in_proj_bias"):
            value.chunk(3)[1].zero_()  # queries, keys, values
    return state


def losses_in_log(run):
    return [[float(number) for number in re.findall(r"loss: ([\d.e+-]+)", line)] for line in curve(run)]


@pytest.mark.parametrize(
    ("size", "sizes"),
    # The 23 utterances make steps of 8, 8 and 7, or of 22 and 1.
    [(4, [(4, 3), (4, 4), (4, 4)]), (11, [(1, 1), (11, 11)])],
)
def test_two_processes_give_the_losses_and_weights_of_one(corpus, tmp_path, size, sizes):
    """Also where a step has one utterance more for a process than for the other, or for one process only."""

    def train(name, num_processes, **options):
        argv = arguments(corpus, tmp_path / name / "run", **OPTIONS | options)
        return train_on(num_processes, argv, tmp_path / name)

    (one,) = train("one", 1, max_batch_size=2 * size)
    (accumulated,) = train("accumulated", 1, max_batch_size=size, grad_accumulation_factor=2)
    first, second = train("two", 2, max_batch_size=size)

    epoch = len(sizes)
    assert sorted((len(a[1]), len(b[1])) for a, b in zip(first[:epoch], second[:epoch], strict=True)) == sizes
    assert [row[0] for row in first] == [row[0] for row in second]  # every process reports the mean
    for step, ((loss, ids), mine, other) in enumerate(zip(one, first, second, strict=True)):
        assert sorted(set(mine[1] + other[1])) == sorted(ids), step
        assert mine[0] == pytest.approx(loss, rel=1e-3), step
        pair = accumulated[2 * step : 2 * step + 2]
        assert [row[1] for row in pair] == [mine[1], other[1]], step
        assert sum(row[0] for row in pair) / 2 == pytest.approx(loss, rel=1e-3), step

    for name in ("accumulated", "two"):
        torch.testing.assert_close(weights_of(tmp_path / name), weights_of(tmp_path / "one"), **TOLERANCE)
        for mine, expected in zip(
            losses_in_log(tmp_path / name / "run"), losses_in_log(tmp_path / "one" / "run"), strict=True
        ):
            assert mine == pytest.approx(expected, rel=1e-3)
