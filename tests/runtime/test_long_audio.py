# SPDX-License-Identifier: Apache-2.0
"""Cutting long recordings at pauses."""

import numpy as np
import pytest

from ee_runtime.long_audio import cut_at_pauses, cut_stream

RATE = 100


def test_what_is_short_enough_is_not_cut():
    waveform = np.random.default_rng(0).standard_normal(500)
    (part,) = cut_at_pauses(waveform, RATE, max_seconds=5)
    assert np.array_equal(part, waveform)


def test_the_cut_is_in_the_middle_of_the_only_pause():
    waveform = np.ones(1500)
    waveform[720:740] = 0.0  # a pause of exactly the window, within the last 10 of the first 10 s
    parts = cut_at_pauses(waveform, RATE, max_seconds=10, search_seconds=5)
    assert [len(part) for part in parts] == [730, 770]
    assert np.array_equal(np.concatenate(parts), waveform)


def test_a_pause_before_the_search_is_not_used():
    waveform = np.ones(1500)
    waveform[100:200] = 0.0
    first, *_ = cut_at_pauses(waveform, RATE, max_seconds=10, search_seconds=5)
    assert len(first) > 500


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_the_waveform_and_none_is_too_long_or_empty(seed):
    waveform = np.random.default_rng(seed).standard_normal(9000 + seed)
    parts = cut_at_pauses(waveform, RATE, max_seconds=10, search_seconds=4)
    assert np.array_equal(np.concatenate(parts), waveform)
    assert all(1 <= len(part) <= 1000 for part in parts)
    assert all(len(part) >= 600 for part in parts[:-1])


def test_a_part_shorter_than_the_search():
    waveform = np.random.default_rng(0).random(100) + 0.1
    parts = cut_at_pauses(waveform, 1, max_seconds=5, search_seconds=10, pause_seconds=1)
    assert np.array_equal(np.concatenate(parts), waveform)
    assert all(1 <= len(part) <= 5 for part in parts)


def test_a_faint_pause_after_very_loud_speech_is_found():
    # the running sum is near 1e10: the rounding of single precision, some 1e3, is more than the whole rest
    waveform = np.full(1600, 3e3)
    waveform[1000:] = 1.0
    waveform[1300:1320] = 0.1
    first, _ = cut_at_pauses(waveform, RATE, max_seconds=15, search_seconds=14)
    assert len(first) == 1310


@pytest.mark.parametrize("size", [1, 333, 1000, 9000])
def test_parts_do_not_depend_on_the_blocks_that_come_in(size):
    waveform = np.random.default_rng(0).standard_normal(4321)
    how = {"max_seconds": 10, "search_seconds": 4}
    wanted = cut_at_pauses(waveform, RATE, **how)
    found = list(cut_stream(np.split(waveform, range(size, 4321, size)), RATE, **how))
    assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))


def test_parts_come_before_the_stream_ends():
    def blocks():
        yield np.ones(2500)
        raise AssertionError("read on before the first parts were taken")

    parts = cut_stream(blocks(), RATE, max_seconds=10)
    assert len(next(parts)) <= 1000 and len(next(parts)) <= 1000


def test_silence_is_cut_too():
    parts = cut_at_pauses(np.zeros(7000), RATE, max_seconds=30, search_seconds=10)
    assert sum(map(len, parts)) == 7000
    assert max(map(len, parts)) <= 3000


@pytest.mark.parametrize("settings", [{"max_seconds": 0.1}, {"max_seconds": 30, "search_seconds": 0.2}])
def test_settings_without_room_for_a_pause_are_refused(settings):
    with pytest.raises(ValueError, match="pause_seconds=0.2 must be shorter"):
        cut_at_pauses(np.zeros(7000), RATE, **settings)
