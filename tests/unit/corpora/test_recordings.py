# SPDX-License-Identifier: Apache-2.0
"""Good audio is loaded as 16 kHz mono, and bad audio gives a one-line error."""

import logging
import math

import numpy as np
import pytest
import soundfile
import torch

from ee_runtime.audio import AudioError, reader
from ee_runtime.audio.reader import audio_duration
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.recordings import check_durations, load_audio


def tone(seconds, sample_rate, frequency=440.0):
    return 0.5 * np.sin(2 * math.pi * frequency * np.arange(int(seconds * sample_rate)) / sample_rate)


def refused(call, path):
    with pytest.raises(AudioError) as caught:
        call(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_16_bit_samples_come_back_exactly(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768], dtype=np.int16)
    soundfile.write(tmp_path / "a.flac", samples, 16000)
    waveform = load_audio(tmp_path / "a.flac")
    assert waveform.dtype == torch.float32
    torch.testing.assert_close(waveform, torch.tensor([0, 1, -1, 32767, -32768]) / 32768, rtol=0, atol=0)


def test_stereo_is_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, 0.25], [-0.5, 0.0]]), 16000)
    torch.testing.assert_close(load_audio(tmp_path / "a.wav"), torch.tensor([0.375, -0.25]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("file_rate", [8000, 44100, 48000])
def test_other_rates_keep_the_tone(tmp_path, file_rate):
    soundfile.write(tmp_path / "a.wav", tone(0.5, file_rate), file_rate)
    waveform = load_audio(tmp_path / "a.wav")
    assert waveform.shape == (8000,)
    # The edges carry the resampling filter's start and end; 16-bit steps are 3e-5.
    expected = torch.tensor(tone(0.5, 16000), dtype=torch.float32)
    torch.testing.assert_close(waveform[500:-500], expected[500:-500], rtol=0, atol=5e-3)


def test_upsampling_is_reported_once(tmp_path, caplog):
    reader._upsampling_to.cache_clear()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, tone(0.1, 8000), 8000)
    soundfile.write(tmp_path / "c.wav", tone(0.1, 48000), 48000)
    with caplog.at_level(logging.WARNING):
        for name in ("c.wav", "a.wav", "b.wav"):
            load_audio(tmp_path / name)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "a.wav is at 8000 Hz and is upsampled to 16000 Hz" in messages[0]


def test_float_file_beyond_full_scale_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([1.5, -2.0, 0.5]), 16000, subtype="FLOAT")
    assert load_audio(tmp_path / "a.wav").tolist() == [1.0, -1.0, 0.5]


@pytest.mark.parametrize("call", [load_audio, audio_duration])
def test_missing_corrupt_and_empty(tmp_path, call):
    assert "does not exist" in refused(call, tmp_path / "none.wav")
    (tmp_path / "noise.wav").write_bytes(b"this is no audio at all")
    assert "is text, not audio" in refused(call, tmp_path / "noise.wav")
    (tmp_path / "zero.wav").write_bytes(b"")
    assert "is empty (0 bytes)" in refused(call, tmp_path / "zero.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    assert "empty (0 samples)" in refused(call, tmp_path / "empty.wav")


def test_samples_that_are_not_numbers(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    assert "NaN" in refused(load_audio, tmp_path / "a.wav")


def test_durations_are_the_files_and_small_differences_are_not_reported(tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", tone(1.5, 8000), 8000)
    utterances = [Utterance("a", tmp_path / "a.wav", 1.45, "cat")]
    with caplog.at_level(logging.WARNING):
        assert [one.duration for one in check_durations(utterances, progress=False)] == [1.5]
    assert not caplog.records


def test_wrong_durations_are_replaced_and_reported_in_one_line(tmp_path, caplog):
    for name, seconds in (("a", 1.0), ("b", 5.2), ("c", 2.0)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(int(seconds * 16000)), 16000)
    utterances = [
        Utterance(name, tmp_path / f"{name}.wav", seconds, "cat", "s")
        for name, seconds in (("a", 1.0), ("b", 3.0), ("c", 9.0))
    ]
    with caplog.at_level(logging.WARNING):
        checked = check_durations(utterances, progress=False)
    assert [utterance.duration for utterance in checked] == [1.0, 5.2, 2.0]
    assert [utterance.speaker for utterance in checked] == ["s"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 durations in the manifest differ from the audio (first: b says 3.00 s, the file "
        "has 5.20 s); the durations of the files are used"
    ]


def test_tolerance_is_in_seconds(tmp_path, caplog):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    utterances = [Utterance("a", tmp_path / "a.wav", 1.4, "cat")]
    for tolerance_s, reports in ((0.5, 0), (0.3, 1)):
        caplog.clear()
        assert check_durations(utterances, tolerance_s=tolerance_s)[0].duration == 1.0
        assert len(caplog.records) == reports


def test_unusable_audio_names_the_first_and_counts_all(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    (tmp_path / "b.wav").write_bytes(b"this is no audio at all")
    utterances = [Utterance(name, tmp_path / f"{name}.wav", 1.0, "cat") for name in "abc"]
    with pytest.raises(AudioError, match=r"^2 of 3 utterances have no usable audio \(first: b: .*b.wav"):
        check_durations(utterances, progress=False)
