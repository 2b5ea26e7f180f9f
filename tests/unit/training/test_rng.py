# SPDX-License-Identifier: Apache-2.0
import random

import numpy as np
import pytest
import torch

from speechbrain_ee.training import rng
from speechbrain_ee.training.checkpoints import AtomicCheckpointer
from speechbrain_ee.training.rng import RNGState


def draw():
    """Numbers of each generator; an odd count of normals leaves one cached in NumPy and Python."""
    return (
        [random.gauss(0, 1), random.random()],
        np.random.standard_normal(3).tolist() + np.random.rand(2).tolist(),
        torch.cat([torch.randn(3), torch.rand(2)]).tolist(),
        [torch.randperm(7).tolist(), random.sample(range(100), 5)],
    )


def test_rng_continues_where_it_was_saved(tmp_path):
    checkpointer = AtomicCheckpointer(tmp_path, {"rng": RNGState()})
    draw()
    checkpointer.save_checkpoint()
    expected = [draw(), draw()]
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    assert draw() != expected[0]
    checkpointer.recover_if_possible()
    assert [draw(), draw()] == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_rng_of_cuda(tmp_path):
    torch.rand(3, device="cuda")
    RNGState().save(tmp_path / "rng.ckpt")
    expected = torch.rand(3, device="cuda")
    torch.rand(5, device="cuda")
    RNGState().load(tmp_path / "rng.ckpt", True)
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_rng_of_more_devices_than_there_are_warns(tmp_path, caplog):
    states = rng._rng_states()
    devices = torch.cuda.device_count()
    states["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * (devices + 1)
    rng._restore_rng_states({**states, "cuda": states["cuda"][devices:] * (devices + 1)})
    assert f"{devices + 1} CUDA devices, but there are {devices}" in caplog.text
