# SPDX-License-Identifier: Apache-2.0
"""The processes of a distributed run share the utterances of each optimizer step."""

import numpy as np
import pytest

from speechbrain_ee.corpora.sampler import BatchSampler, split_step

SECONDS = np.random.default_rng(0).uniform(1.0, 9.0, size=103).round(2).tolist()
BOUNDARIES = [3.0, 5.0, 7.0, 9.0]
LIMITS = {"max_batch_length": 20.0, "max_batch_ex": 5}


def make_sampler(rank=0, epoch=1, seconds=SECONDS, **options):
    options = LIMITS | {"shuffle": True, "seed": 7, "bucket_boundaries": BOUNDARIES} | options
    sampler = BatchSampler(range(len(seconds)), lengths_list=seconds, rank=rank, **options)
    sampler.set_epoch(epoch)
    return sampler


def steps_of(num_processes, per_process, **options):
    """Return the parts of each optimizer step, over all processes."""
    options |= {"num_processes": num_processes, "parts_per_process": per_process}
    parts = [make_sampler(rank, **options).parts for rank in range(num_processes)]
    starts = range(0, len(parts[0]), per_process)
    return [[part for own in parts for part in own[start : start + per_process]] for start in starts]


def utterances_of(steps):
    return [sorted(index for part in step if part.share for index in part.indices) for step in steps]


@pytest.mark.parametrize(("size", "counts"), [(7, [3, 2, 2]), (3, [1, 1, 1]), (2, [1, 1, 0])])
def test_a_step_is_split_into_parts_of_equal_size_up_to_one(size, counts):
    parts = split_step(range(10, 10 + size), 3)
    assert [round(part.share * size) for part in parts] == counts
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert all(part.indices for part in parts)  # each process needs a forward pass
    assert sorted(index for part in parts if part.share for index in part.indices) == list(range(10, 10 + size))


@pytest.mark.parametrize(("num_processes", "per_process"), [(4, 1), (2, 2), (1, 4)])
def test_steps_depend_on_processes_times_batches_alone(num_processes, per_process):
    steps = utterances_of(steps_of(num_processes, per_process))
    assert steps == utterances_of(steps_of(2, 2))
    assert sorted(sum(steps, [])) == list(range(len(SECONDS)))  # no utterance is left out or repeated


def test_where_the_number_of_utterances_limits_batches_two_processes_train_on_the_batches_of_one():
    options = {"max_batch_length": 1000.0}
    two = utterances_of(steps_of(2, 1, max_batch_ex=5, **options))
    assert two == [sorted(batch) for batch in make_sampler(max_batch_ex=10, **options)]
    assert two != utterances_of(steps_of(2, 1, max_batch_ex=5, epoch=2, **options))


def test_each_part_keeps_the_limits_and_a_step_has_utterances_of_one_bucket():
    for step in steps_of(3, 1):
        assert len({int(np.searchsorted(BOUNDARIES, SECONDS[i])) for part in step for i in part.indices}) == 1
        for part in step:
            assert len(part.indices) <= 5
            assert len(part.indices) * max(SECONDS[index] for index in part.indices) <= 20.0


def test_processes_have_the_same_number_of_batches_also_with_drop_last():
    samplers = [make_sampler(rank, num_processes=2, drop_last=True) for rank in (0, 1)]
    assert len(samplers[0]) == len(samplers[1]) > 0
    assert all(part.share == 0.5 for sampler in samplers for part in sampler.parts)


def test_without_shuffling_every_process_takes_all_batches():
    options = {"shuffle": False, "batch_ordering": "descending"}
    one, other = list(make_sampler(**options)), list(make_sampler(1, num_processes=2, **options))
    assert one == other and sorted(sum(one, [])) == list(range(len(SECONDS)))


def test_more_parts_than_utterances_are_refused():
    message = (
        r"needs 16 utterances \(grad_accumulation_factor=8 times 2 processes\), .* at most 3 of similar length: lower"
    )
    with pytest.raises(ValueError, match=message):
        make_sampler(seconds=[1.0, 2.0, 2.5, 4.0], num_processes=2, parts_per_process=8)
