# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from unit.models import model_with_heads

from speechbrain_ee.errors import CheckpointError
from speechbrain_ee.lobes.state_dicts import first_names, load_strict
from speechbrain_ee.training.averaging import average_checkpoints, mix_state_dicts
from speechbrain_ee.training.checkpoints import AtomicCheckpointer


def test_strict_load_of_the_same_model():
    source, target = model_with_heads(2), model_with_heads(2)
    load_strict(target, source.state_dict(), what="the checkpoint")
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize(
    "source, message",
    [
        (
            model_with_heads(2),
            "the checkpoint lacks head 2: heads.2.weight, heads.2.bias (2 keys); build the model "
            "with the settings it was trained with",
        ),
        (
            model_with_heads(4),
            "the checkpoint has in excess head 3: heads.3.weight, heads.3.bias (2 keys); build ",
        ),
        (
            nn.ModuleDict({"encoder": nn.Linear(2, 2)}),
            "the checkpoint lacks heads 0, 1, 2: heads.0.weight, heads.0.bias, heads.1.weight, "
            "heads.1.bias, heads.2.weight, ... (6 keys); ",
        ),
        (
            nn.ModuleDict({"encoder": nn.Linear(2, 2, False), "heads": model_with_heads(3).heads}),
            "the checkpoint lacks encoder.bias (1 key); ",
        ),
        (
            nn.ModuleDict({"encoder": nn.Linear(5, 2), "heads": model_with_heads(3).heads}),
            "the checkpoint has in another shape encoder.weight (2, 5) instead of (2, 2) (1 key);",
        ),
        (
            nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.ModuleList([nn.Linear(2, 3)])}),
            "heads.2.weight, ... (6 keys), has in excess head.0.weight, head.0.bias (2 keys); ",
        ),
    ],
)
def test_strict_load_refuses_by_name(source, message):
    target = model_with_heads(3)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_strict(target, source.state_dict(), what="the checkpoint")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    for key, value in before.items():
        assert torch.equal(target.state_dict()[key], value), f"{key} was changed"


class Counted(nn.Module):
    def __init__(self, weight, steps, extra=False):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.short = nn.Parameter(torch.tensor(weight, dtype=torch.float16))
        self.register_buffer("steps", torch.tensor(steps))
        self.register_buffer("mask", torch.tensor([True, False]))
        if extra:
            self.bias = nn.Parameter(torch.zeros(1))


def save_models(folder, models, wers):
    for index, (model, wer) in enumerate(zip(models, wers, strict=True)):
        AtomicCheckpointer(folder, {"model": model}).save_checkpoint({"wer": wer}, name=str(index))
    return AtomicCheckpointer(folder)


def test_average_of_the_best_two_of_three(tmp_path):
    models = [Counted([1.0, 2.0], 10), Counted([100.0, 100.0], 20), Counted([4.0, 8.0], 31)]
    checkpointer = save_models(tmp_path, models, [8.0, 90.0, 5.0])
    mean = average_checkpoints(checkpointer, "model", 2, min_key="wer")
    assert mean["weight"].tolist() == [2.5, 5.0] and mean["weight"].dtype == torch.float32
    assert mean["short"].tolist() == [2.5, 5.0] and mean["short"].dtype == torch.float16
    assert mean["steps"].dtype == torch.int64 and mean["steps"].item() == 31  # of the best
    assert mean["mask"].tolist() == [True, False]
    load_strict(models[0], mean, what="the mean")


def test_average_in_half_precision_rounds_once(tmp_path):
    # (2048 + 1 + 1 + 2) / 4; a running sum in float16 would lose each 1.
    models = [Counted([value], 0) for value in (2048.0, 1.0, 1.0, 2.0)]
    checkpointer = save_models(tmp_path, models, [1.0, 2.0, 3.0, 4.0])
    mean = average_checkpoints(checkpointer, "model", 4, min_key="wer")
    assert mean["short"].item() == 513.0


def test_average_of_all_when_fewer(tmp_path):
    checkpointer = save_models(tmp_path, [Counted([3.0], 1)], [1.0])
    mean = average_checkpoints(checkpointer, "model", 5, min_key="wer")
    assert mean["weight"].tolist() == [3.0]


@pytest.mark.parametrize("other, key", [(Counted([1.0], 1, extra=True), "bias"), (Counted([1.0, 2.0], 1), "weight")])
@pytest.mark.parametrize("wers", [(1.0, 2.0), (2.0, 1.0)])
def test_average_refuses_other_models_by_name(tmp_path, other, key, wers):
    checkpointer = save_models(tmp_path, [Counted([1.0], 1), other], wers)
    with pytest.raises(CheckpointError, match=rf"CKPT\+\d and .*CKPT\+\d differ in {key}"):
        average_checkpoints(checkpointer, "model", 2, min_key="wer")


@pytest.mark.parametrize(
    "name, num, min_key, message",
    [
        ("model", 2, "cer", "has cer in its meta: train for at least one epoch"),
        ("lm", 2, "wer", "CKPT.0 lacks lm: it has model"),
        ("model", 0, "wer", "is 0: give 1 or more"),
    ],
)
def test_average_of_nothing(tmp_path, name, num, min_key, message):
    checkpointer = save_models(tmp_path, [Counted([1.0], 1)], [1.0])
    with pytest.raises((CheckpointError, ValueError), match=message):
        average_checkpoints(checkpointer, name, num, min_key=min_key)


def test_interpolate_takes_the_device_of_what_was_trained():
    trained = {"weight": torch.ones(3)}
    initial = {"weight": torch.ones(3, device="meta")}
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        on_gpu = FakeTensor(mode, initial["weight"], torch.device("cuda:0"))
        mixed = mix_state_dicts({"weight": mode.from_tensor(trained["weight"])}, {"weight": on_gpu}, share=0.5)
    assert mixed["weight"].device.type == "cpu"


def test_a_share_by_hand_and_whole_numbers_of_what_was_trained():
    trained = {"weight": torch.tensor([4.0], dtype=torch.bfloat16), "draw": torch.tensor(7)}
    mixed = mix_state_dicts(trained, {"weight": torch.tensor([0.0]), "draw": torch.tensor(3)}, share=0.25)
    assert mixed["weight"].dtype == torch.bfloat16 and mixed["weight"].item() == 3.0
    assert mixed["draw"].item() == 7


def test_a_message_names_five_keys_and_says_whether_there_are_more():
    assert first_names(list("abcde")) == "a, b, c, d, e"
    assert first_names(list("abcdef")) == "a, b, c, d, e, ..."
