# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules."""

import pytest
import torch

from speechbrain_ee.schedulers import WarmupCosine, give_lr_factor, noam, schedule


def optimizer():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]}, {"params": [torch.nn.Parameter(torch.zeros(1))]}]
    return torch.optim.SGD(groups, lr=9.0)


def rates(schedule, num_steps):
    opt = optimizer()
    found = [schedule(opt)[1] for _ in range(num_steps)]
    assert opt.param_groups[0]["lr"] == opt.param_groups[1]["lr"] == found[-1]
    return found


def test_warmup_cosine_by_hand():
    found = rates(WarmupCosine(total_steps=6, lr=2.0, warmup_steps=2, final_share=0.1), 8)
    # cosine of 0, 45, 90, 135, 180 degrees between 2.0 and 0.2; after the end it stays there
    assert found == pytest.approx([1.0, 2.0, 1.736396, 1.1, 0.463604, 0.2, 0.2, 0.2])


def test_noam_warms_up_and_falls_with_the_square_root():
    found = rates(noam(total_steps=99, lr=2.0, warmup_steps=4), 16)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[15] == pytest.approx(2.0 * (4 / 16) ** 0.5)


@pytest.mark.parametrize("make", [WarmupCosine, noam])
def test_saved_and_loaded_goes_on_where_it_was(tmp_path, make):
    whole = rates(make(total_steps=9, lr=1.0, warmup_steps=3), 9)
    first, second = (make(total_steps=9, lr=1.0, warmup_steps=3) for _ in range(2))
    begun = rates(first, 4)
    first.save(tmp_path / "schedule")
    second.load(tmp_path / "schedule")
    assert begun + rates(second, 5) == whole


@pytest.mark.parametrize("warmup_steps", [0, 10, 11])
def test_warmup_that_does_not_fit_is_refused(warmup_steps):
    with pytest.raises(ValueError, match=f"warmup_steps={warmup_steps} do not fit into 10 optimizer steps"):
        WarmupCosine(total_steps=10, lr=1.0, warmup_steps=warmup_steps)


def test_a_schedule_by_name():
    settings = {"total_steps": 10, "lr": 1.0, "warmup_steps": 2}
    assert rates(schedule("noam", **settings), 9) == rates(noam(**settings), 9)
    assert rates(schedule("warmup_cosine", **settings), 9) == rates(WarmupCosine(**settings), 9)


def test_noam_without_warmup_is_refused():
    with pytest.raises(ValueError, match="warmup_steps=0"):
        noam(total_steps=10, lr=1.0, warmup_steps=0)


@pytest.mark.parametrize("kind", ["warmup_cosine", "noam"])
def test_a_group_with_a_factor_has_its_share_of_the_rate(kind):
    slow, fast = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    opt = torch.optim.AdamW([*slow.parameters(), *fast.parameters()], lr=9.0, weight_decay=0.3)
    give_lr_factor(opt, slow.parameters(), 0.25)
    made = schedule(kind, total_steps=9, lr=2.0, warmup_steps=4)
    for _ in range(3):
        made(opt)
        rates = {id(parameter): group["lr"] for group in opt.param_groups for parameter in group["params"]}
        assert rates[id(slow.weight)] == rates[id(slow.bias)] == pytest.approx(0.25 * rates[id(fast.weight)])
    assert [group["weight_decay"] for group in opt.param_groups] == [0.3, 0.3]
    assert opt.param_groups[0]["lr"] == rates[id(fast.weight)], "the first group's is the one in the log"


def test_a_factor_of_nothing_is_refused():
    with pytest.raises(ValueError, match="give more than 0, or freeze it"):
        give_lr_factor(optimizer(), [], 0)
