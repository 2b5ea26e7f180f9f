# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules."""

import pytest
import torch
from speechbrain.nnet.schedulers import NoamScheduler

from speechbrain_ee.training.checkpoints import AtomicCheckpointer
from speechbrain_ee.training.schedulers import give_lr_factor, load_schedule, schedule

KINDS = ("warmup_cosine", "noam")


def optimizer(lr=2.0):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    return torch.optim.SGD(groups, lr=lr)


def make(kind, total_steps=9, warmup_steps=3, lr=2.0):
    opt = optimizer(lr)
    return opt, schedule(kind, optimizer=opt, total_steps=total_steps, warmup_steps=warmup_steps)


def rates(opt, made, num_steps):
    """Rate of each of the next steps."""
    found = []
    for _ in range(num_steps):
        assert opt.param_groups[0]["lr"] == opt.param_groups[1]["lr"]
        found.append(opt.param_groups[0]["lr"])
        opt.step()
        made.step()
    return found


def test_warmup_cosine_by_hand():
    found = rates(*make("warmup_cosine", total_steps=6, warmup_steps=2), 8)
    # cosine of 0, 45, 90, 135, 180 degrees between 2.0 and 0.04, 2 % of it; after the end it stays there
    assert found == pytest.approx([1.0, 2.0, 1.7129646, 1.02, 0.3270354, 0.04, 0.04, 0.04])


def test_noam_warms_up_and_falls_with_the_square_root():
    found = rates(*make("noam", total_steps=99, warmup_steps=4), 16)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[15] == pytest.approx(2.0 * (4 / 16) ** 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_goes_on_where_it_was(tmp_path, kind):
    whole = rates(*make(kind), 9)
    first, second = make(kind), make(kind)
    begun = rates(*first, 4)
    checkpointer(tmp_path, *first).save_checkpoint()
    checkpointer(tmp_path, *second).recover_if_possible()
    assert begun + rates(*second, 5) == whole


def checkpointer(folder, opt, made):
    found = AtomicCheckpointer(folder, {"optimizer": opt})
    found.add_recoverable("lr_scheduler", made, load_schedule)
    return found


def old_warmup_cosine(path, next_step):
    path.write_text(str(next_step))


def old_noam(path, next_step):
    speechbrains = NoamScheduler(lr_initial=2.0, n_warmup_steps=3)
    for _ in range(next_step):
        speechbrains(optimizer())
    speechbrains.save(path)


@pytest.mark.parametrize(("kind", "save"), [("warmup_cosine", old_warmup_cosine), ("noam", old_noam)])
def test_a_file_of_an_earlier_version_goes_on_where_it_was(tmp_path, kind, save):
    whole = rates(*make(kind), 9)
    save(tmp_path / "lr_scheduler.ckpt", 5)  # four steps were done, and the rate of the fifth was set
    opt, made = make(kind)
    load_schedule(made, tmp_path / "lr_scheduler.ckpt")
    opt.param_groups[0]["lr"] = opt.param_groups[1]["lr"] = whole[4]  # which the optimizer's file has
    assert rates(opt, made, 5) == whole[4:]


def test_more_epochs_than_when_it_was_saved_stretch_what_is_left(tmp_path):
    first, second = make("warmup_cosine"), make("warmup_cosine", total_steps=18)
    rates(*first, 4)
    checkpointer(tmp_path, *first).save_checkpoint()
    checkpointer(tmp_path, *second).recover_if_possible()
    assert rates(*second, 5)[1:] == rates(*make("warmup_cosine", total_steps=18), 9)[5:]


@pytest.mark.parametrize("warmup_steps", [12, 13, 250])
def test_warmup_that_does_not_fit_is_a_quarter_of_the_steps(warmup_steps):
    assert rates(*make("warmup_cosine", total_steps=12, warmup_steps=warmup_steps), 12) == rates(
        *make("warmup_cosine", total_steps=12, warmup_steps=3), 12
    )
    assert rates(*make("warmup_cosine", total_steps=12, warmup_steps=11), 2) == rates(*make("noam", warmup_steps=11), 2)


def test_a_training_of_one_step_has_a_rate():
    assert rates(*make("warmup_cosine", total_steps=1, warmup_steps=5), 1)[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_warmup_is_refused(kind):
    with pytest.raises(ValueError, match="warmup_steps=0: give at least 1"):
        make(kind, total_steps=10, warmup_steps=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_with_a_factor_has_its_share_of_the_rate(kind):
    slow, fast = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    opt = torch.optim.AdamW([*slow.parameters(), *fast.parameters()], lr=2.0, weight_decay=0.3)
    give_lr_factor(opt, slow.parameters(), 0.25)
    made = schedule(kind, optimizer=opt, total_steps=9, warmup_steps=4)
    for _ in range(3):
        rates = {id(parameter): group["lr"] for group in opt.param_groups for parameter in group["params"]}
        assert rates[id(slow.weight)] == rates[id(slow.bias)] == pytest.approx(0.25 * rates[id(fast.weight)])
        opt.step()
        made.step()
    assert [group["weight_decay"] for group in opt.param_groups] == [0.3, 0.3]
    assert made.get_last_lr()[0] == pytest.approx(2.0), "the first group's is the one in the log"


def test_a_factor_of_nothing_is_refused():
    with pytest.raises(ValueError, match="give a number above 0, or freeze the encoder"):
        give_lr_factor(optimizer(), [], 0)
