# SPDX-License-Identifier: Apache-2.0
"""Batches respect their limits and depend on seed and epoch; a resumed loader continues exactly."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer
from unit.corpora.speech import TEXTS, augmented, fake, write_noise

from speechbrain_ee.corpora.dataset import SpeechDataset
from speechbrain_ee.corpora.loader import make_loader
from speechbrain_ee.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "char.model"
    return Tokenizer.train(TEXTS, path=path, model_type="char")


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("wav"))


def ids_of(loader):
    return [batch.id for batch in loader]


def batch_ids(utterances, tokenizer, **options):
    """The batches by id, without reading audio."""
    dataset = SpeechDataset(utterances, tokenizer)
    loader = make_loader(dataset, **{"shuffle": True, **options})
    return [[dataset.data_ids[index] for index in batch] for batch in loader.batch_sampler]


def test_batch_is_padded_with_integer_lengths(utterances, tokenizer):
    loader = make_loader(SpeechDataset(utterances, tokenizer), max_batch_seconds=2.0, num_buckets=1, shuffle=False)
    batch = next(iter(loader))
    assert len(batch.id) == 4  # int(2.0 / 0.5)
    expected = [int(name[1:]) * 320 + 3200 for name in batch.id]
    assert batch.sig.lengths.tolist() == expected
    for sig, length in zip(batch.sig.data, expected, strict=True):
        assert sig[length:].eq(0).all() and not sig[length - 1].eq(0)
    assert batch.tokens.data.shape[0] == 4 and batch.text[0] in TEXTS


@pytest.mark.parametrize(("texts", "lengths"), [(["", ""], [0, 0]), (["", "cat"], [0, 4])])
def test_empty_texts_make_a_batch(utterances, tokenizer, texts, lengths):
    empty = [replace(utt, text=text) for utt, text in zip(utterances, texts, strict=False)]
    dataset = SpeechDataset(empty, tokenizer)
    batch = next(iter(make_loader(dataset, max_batch_seconds=9, num_buckets=1, shuffle=False)))
    assert batch.id == ["u01", "u00"]  # the longest first
    assert batch.tokens.data.shape == (2, max(lengths))
    assert batch.tokens.lengths.tolist() == lengths[::-1]


@pytest.mark.parametrize("num_buckets", [1, 3, 50])
@pytest.mark.parametrize("count", [1, 2, 3, 200])
def test_every_utterance_is_in_one_batch_within_the_limits(tokenizer, num_buckets, count):
    durations = [0.5 + (7 * i % 100) / 10 for i in range(count)]  # up to 10.4 s
    utterances = fake(durations)
    batches = batch_ids(utterances, tokenizer, max_batch_seconds=20, max_batch_size=6, num_buckets=num_buckets)
    assert sorted(sum(batches, [])) == sorted(utterance.id for utterance in utterances)
    for batch in batches:
        padded = len(batch) * max(durations[int(name[1:])] for name in batch)
        assert len(batch) <= 6 and padded <= 20


def test_short_utterances_fill_their_batches(tokenizer):
    # The stock sampler's log-normal buckets would put at most 14 of these in a batch.
    batches = batch_ids(fake([1.0] * 300 + [30.0] * 30), tokenizer, max_batch_seconds=100)
    assert max(map(len, batches)) == 100


@pytest.mark.parametrize("count", [1, 3])
def test_utterance_longer_than_a_batch_is_alone_and_not_lost(tokenizer, count):
    durations = [50.0, 1.0, 1.0][:count]
    batches = batch_ids(fake(durations), tokenizer, max_batch_seconds=4.0, num_buckets=2)
    assert sorted(map(sorted, batches)) == [["u0"], ["u1", "u2"]][: max(1, count - 1)]


def test_batches_are_a_function_of_seed_and_epoch(utterances, tokenizer):
    options = {"max_batch_seconds": 1.5, "num_buckets": 2, "shuffle": True}
    make = lambda seed: make_loader(SpeechDataset(utterances, tokenizer), seed=seed, **options)  # noqa: E731
    loader = make(0)
    epochs = []
    for epoch in (0, 1, 2):
        loader.set_epoch(epoch)
        epochs.append(ids_of(loader))
        assert ids_of(loader) == epochs[-1]  # a second run through it changes nothing
    assert epochs[0] != epochs[1] != epochs[2]
    straight = make(0)
    straight.set_epoch(2)
    assert ids_of(straight) == epochs[2]
    other_seed = make(1)
    assert ids_of(other_seed) not in epochs


def test_loader_sets_the_epoch_of_the_augmentation_too(utterances, tokenizer):
    loader = make_loader(augmented(utterances, tokenizer), max_batch_seconds=0.1, shuffle=True, num_buckets=1)
    expected = augmented(utterances, tokenizer)
    expected.epoch = 4
    loader.set_epoch(4)
    for batch in loader:
        assert torch.equal(batch.sig.data[0], expected[int(batch.id[0][1:])]["sig"])


def test_evaluation_order_is_longest_first(tokenizer):
    batches = batch_ids(fake([1.0, 3.0, 2.0]), tokenizer, max_batch_seconds=3.0, num_buckets=3, shuffle=False)
    assert batches == [["u1"], ["u2"], ["u0"]]


@pytest.mark.parametrize("shuffle", [False, True])
def test_silence_behind_short_utterances_counts(tokenizer, shuffle):
    options = {"max_batch_seconds": 60.0, "num_buckets": 2, "shuffle": shuffle}
    batches = batch_ids(fake([1.0, 1.5, 2.0, 2.5]), tokenizer, **options)
    assert max(map(len, batches)) > 1
    padded = batch_ids(fake([1.0, 1.5, 2.0, 2.5]), tokenizer, min_seconds=30.0, **options)
    assert sorted(map(len, padded)) == [2, 2], "two times 30 s fill 60 s"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_global_random_number_is_drawn(utterances, tokenizer, num_workers):
    loader = make_loader(
        augmented(utterances, tokenizer),
        max_batch_seconds=2.0,
        shuffle=True,
        num_workers=num_workers,
    )
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    loader.set_epoch(1)
    assert len(ids_of(loader)) == len(loader)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]


def test_without_shuffling_the_longest_come_first(tokenizer):
    utterances = fake([1.0, 9.0, 3.0, 6.0])
    batches = batch_ids(utterances, tokenizer, shuffle=False, max_batch_seconds=1.0, num_buckets=4)
    assert batches == [[utterances[index].id] for index in (1, 3, 2, 0)]


def test_what_workers_are_seeded_with_depends_on_the_epoch_alone(utterances, tokenizer):
    options = {"max_batch_seconds": 2.0, "shuffle": True}
    whole, resumed = (make_loader(SpeechDataset(utterances, tokenizer), **options) for _ in range(2))
    whole.set_epoch(1)
    first = whole.generator.get_state()
    ids_of(whole)
    whole.set_epoch(2)
    resumed.set_epoch(2)
    assert torch.equal(resumed.generator.get_state(), whole.generator.get_state())
    assert not torch.equal(first, whole.generator.get_state())


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("cache_audio", [False, True])
def test_law_7_resumed_loader_gives_exactly_the_rest(tmp_path, utterances, tokenizer, num_workers, cache_audio):
    """Law 7: saved after 3 of 8 batches of epoch 5, new objects, the same other 5 batches."""

    def start():
        loader = make_loader(
            augmented(utterances, tokenizer, seed=1, cache_audio=cache_audio),
            max_batch_seconds=10.0,
            max_batch_size=2,
            num_buckets=1,
            shuffle=True,
            seed=1,
            num_workers=num_workers,
        )
        return loader, Checkpointer(tmp_path, {"loader": loader})

    loader, checkpointer = start()
    loader.set_epoch(5)
    uninterrupted = []
    for number, batch in enumerate(loader, start=1):
        uninterrupted.append(batch)
        if number == 3:
            checkpointer.save_checkpoint(end_of_epoch=False)
    assert len(uninterrupted) == 8

    torch.manual_seed(1234)  # the new process is in some other state
    resumed, new_checkpointer = start()
    new_checkpointer.recover_if_possible()
    resumed.set_epoch(5)
    rest = list(resumed)
    assert [batch.id for batch in rest] == [batch.id for batch in uninterrupted[3:]]
    for got, expected in zip(rest, uninterrupted[3:], strict=True):
        assert torch.equal(got.sig.data, expected.sig.data)
        assert torch.equal(got.sig.lengths, expected.sig.lengths)
        assert torch.equal(got.tokens.data, expected.tokens.data)
    resumed.set_epoch(6)
    assert sorted(sum(ids_of(resumed), [])) == [utterance.id for utterance in utterances]


def test_drop_last_and_bad_limits(tokenizer):
    options = {"max_batch_seconds": 3.0, "num_buckets": 1}
    kept = batch_ids(fake([1.0] * 8), tokenizer, drop_last=True, **options)
    assert list(map(len, kept)) == [3, 3]
    with pytest.raises(ValueError, match="drop_last leaves no batch of 2 utterances"):
        batch_ids(fake([1.0] * 2), tokenizer, drop_last=True, **options)
    for change in ({"max_batch_seconds": 0}, {"num_buckets": 0}, {"max_batch_size": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} is .*: it must be above 0"):
            batch_ids(fake([1.0]), tokenizer, **{**options, **change})
