# SPDX-License-Identifier: Apache-2.0
"""No double precision is used on devices other than the CPU, since some (Apple's GPUs) lack it."""

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import speechbrain_ee
from speechbrain_ee.inference.ctc_scores import _AVERAGES, compute_scores
from speechbrain_ee.lobes import ExitOutput, LogMel
from speechbrain_ee.lobes.padding import absolute_lengths
from speechbrain_ee.training.averaging import mix_state_dicts

pytestmark = pytest.mark.skipif(
    torch.__version__ < "2.13", reason="older releases of torch ask the driver for the device that they imitate"
)
DEVICE = "cuda"  # represents any device but the CPU; torch can simulate it without a GPU


class NoDoubles(TorchDispatchMode):
    """Raise an error for results in double precision on the device, as the device does."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.device.type == DEVICE and one.dtype == torch.float64:
                raise TypeError(f"{function}: {DEVICE} has no float64")
        return result


def scores():
    log_probs = torch.zeros(2, 5, 4, device=DEVICE).log_softmax(-1)
    return compute_scores(ExitOutput(log_probs, torch.tensor([5, 3], device=DEVICE)), names=list(_AVERAGES))


def statistics():
    features = LogMel(n_mels=20).to(DEVICE)
    return features.fit([torch.zeros(1600)])


CALLS = {
    "lengths": lambda: absolute_lengths(torch.ones(2, device=DEVICE), 10),
    "scores": scores,
    "statistics": statistics,
    "shares": lambda: mix_state_dicts({"a": torch.ones(2, device=DEVICE)}, {"a": torch.zeros(2)}, share=0.5),
}


@pytest.mark.parametrize("what", CALLS)
def test_nothing_is_double_on_the_device(what):
    with FakeTensorMode(), NoDoubles():  # tensors without values, on a simulated device
        CALLS[what]()


def test_doubles_on_the_device_are_seen():
    with FakeTensorMode(), NoDoubles(), pytest.raises(TypeError, match="cuda has no float64"):
        torch.ones(2, device=DEVICE).double()


def test_doubles_are_made_on_the_cpu_alone():
    root = Path(speechbrain_ee.__file__).parent
    for path in root.rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            made = re.findall(r"(\S*)\.double\(\)", line)
            assert all(before.endswith(".cpu()") for before in made), f"{path.relative_to(root)}: {line.strip()}"
