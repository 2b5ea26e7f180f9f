# SPDX-License-Identifier: Apache-2.0
"""A part of a recording has the samples of a file that was cut to this part, whatever the decoder needs before it."""

import struct
import time

import numpy as np
import pytest
import soundfile
from runtime.audio.files import bytes_of, flac_that_claims, mp3, save

from ee_runtime.audio import AudioError, Excerpt, audio_duration, audio_info, read_blocks
from ee_runtime.audio.recording import Recording

SECONDS = 14
PARTS = ((0.013, 1.234), (7.77, 0.5), (12.8, None))  # offsets and durations
SHORT = ((0.5, 0.25), (2.2, None))
HOURS_3 = 3 * 3600


def loud_and_silent(rate, channels=1):
    """Tones, noise and long silences, in which decoders keep what they heard."""
    rng = np.random.default_rng(0)
    time_s = np.arange(SECONDS * rate) / rate
    tones = sum(0.2 * np.sin(2 * np.pi * pitch * time_s) * np.sin(time_s * 3) for pitch in (220, 1000.5))
    samples = (tones + 0.05 * rng.standard_normal(len(time_s))) * (np.sin(time_s / 2) > -0.5)
    return samples if channels == 1 else np.stack([samples, -0.4 * samples[::-1]], 1)


def read(path, rate=16000, excerpt=None):
    return np.concatenate(list(read_blocks(path, rate, excerpt=excerpt)))


def native(path):
    """Return all samples, (samples, channels), and the sample rate."""
    with open(path, "rb") as file:
        recording = Recording(path, file)
        return np.concatenate(list(recording.blocks())), recording.rate


def check_excerpts(folder, path, parts=PARTS):
    whole, rate = native(path)
    for offset, duration in parts:
        start = int(np.floor(offset * rate + 0.5))
        stop = None if duration is None else start + int(np.floor(duration * rate + 0.5))
        soundfile.write(folder / "cut.wav", whole[start:stop], rate, subtype="FLOAT")
        found = read(path, excerpt=Excerpt(offset, duration))
        np.testing.assert_array_equal(found, read(folder / "cut.wav"))


@pytest.mark.parametrize(
    ("format", "subtype", "rate", "channels"),
    [
        ("WAV", "PCM_16", 16000, 1),
        ("WAV", "FLOAT", 44100, 2),
        ("WAV", "ULAW", 8000, 2),
        ("WAV", "IMA_ADPCM", 16000, 1),  # decoded from the start
        ("WAV", "GSM610", 8000, 1),  # decoded from the start
        ("AIFF", "PCM_24", 22050, 2),
        ("NIST", "PCM_16", 16000, 1),
        ("FLAC", "PCM_16", 16000, 1),
        ("FLAC", "PCM_24", 44100, 2),
        ("OGG", "VORBIS", 44100, 2),
        ("OGG", "OPUS", 16000, 1),
        ("OGG", "OPUS", 48000, 1),
    ],
)
def test_a_part_is_the_file_cut_to_it(tmp_path, format, subtype, rate, channels):
    path = tmp_path / "a.bin"
    soundfile.write(path, loud_and_silent(rate, channels), rate, format=format, subtype=subtype)
    check_excerpts(tmp_path, path)


@pytest.mark.parametrize(
    ("mode", "rate", "channels"),
    [("CONSTANT", 8000, 1), ("VARIABLE", 22050, 2), ("CONSTANT", 16000, 1), ("AVERAGE", 48000, 1)],  # MPEG 2.5, 2, 1
)
def test_a_part_of_mp3(tmp_path, mode, rate, channels):
    samples = loud_and_silent(rate, channels)
    path = save(tmp_path, bytes_of("MP3", samples, rate, bitrate_mode=mode, compression_level=0.8))
    check_excerpts(tmp_path, path)


def test_a_part_of_mp3_without_a_number_of_frames_or_with_other_bytes_between_frames(tmp_path, notes):
    data = bytes_of("MP3", loud_and_silent(16000), 16000, bitrate_mode="CONSTANT", compression_level=0.5)
    data = data[data.index(data[:2], 4) :]
    check_excerpts(tmp_path, save(tmp_path, data))
    assert notes() == []
    middle = data.index(data[:4], len(data) // 3)
    check_excerpts(tmp_path, save(tmp_path, data[:middle] + bytes(500) + data[middle:], "b.bin"))


def test_a_part_of_a_file_whose_header_is_wrong(tmp_path, notes):
    for number, data in enumerate((flac_that_claims(0), flac_that_claims(30000))):
        check_excerpts(tmp_path, save(tmp_path, data, f"{number}.flac"), SHORT)
    data = bytes_of("WAV")
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    check_excerpts(tmp_path, save(tmp_path, data, "a.wav"), SHORT)
    cut = save(tmp_path, mp3("CONSTANT")[: len(mp3("CONSTANT")) // 2], "b.mp3")
    with pytest.raises(AudioError, match="breaks off"):
        read(cut, excerpt=Excerpt(0.1, 0.2))


def test_times_are_rounded_to_the_nearest_sample_of_the_file(tmp_path):
    samples = np.arange(16000) / 32768
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    start = 4567
    found = read(tmp_path / "a.wav", 8000, Excerpt(start / 8000 + 0.4 / 8000, 2.6 / 8000))
    assert (found * 32768).tolist() == [start, start + 1, start + 2]
    every = [Excerpt(one / 8000, 1 / 8000).samples(8000, 16000) for one in range(16000)]
    assert every == [(one, one + 1) for one in range(16000)]


def test_what_the_file_lacks_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full((16000, 2), 0.5), 8000)
    assert len(read(path, 8000, Excerpt(1.5, 0.55))) == 4000  # durations in manifests are rounded
    for excerpt, message in (
        (Excerpt(1.5, 0.65), "a.wav has 2.00 s, but its part from 1.50 s to 2.15 s is asked for"),
        (Excerpt(2.0), "a.wav has 2.00 s, but its part from 2.00 s is asked for"),
        (Excerpt(2.0, 0.05), "part from 2.00 s to 2.05 s"),
        (Excerpt(1.0, 1e-5), "has no sample from 1.00 s"),
        (Excerpt(channel=2), "has 2 channels, but channel 2 .counted from 0. is asked for"),
    ):
        with pytest.raises(AudioError, match=message):
            read(path, excerpt=excerpt)
    for values in ((-1.0,), (float("nan"),), (0.0, 0.0), (0.0, None, -1)):
        with pytest.raises(ValueError, match="it must be|counted from 0"):
            Excerpt(*values)


def test_one_channel_is_read_alone_and_a_part_decides_its_own_mix(tmp_path):
    left, right = np.full(8000, 0.5), np.full(8000, 0.25)
    right[4000:] = -0.5  # from there on they cancel each other
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    for channel, expected in ((0, left), (1, right)):
        np.testing.assert_array_equal(read(tmp_path / "a.wav", excerpt=Excerpt(channel=channel)), expected)
    assert set(read(tmp_path / "a.wav", excerpt=Excerpt(0.0, 0.25))) == {0.375}
    assert set(read(tmp_path / "a.wav", excerpt=Excerpt(0.25))) == {0.5}  # the loudest alone
    assert read(tmp_path / "a.wav", excerpt=Excerpt(0.25, channel=1)).tolist() == right[4000:].tolist()


def test_damage_outside_the_part_does_not_matter(tmp_path):
    samples = np.full(16000, 0.5, np.float32)
    samples[100] = np.nan
    for subtype in ("FLOAT", "DOUBLE"):
        soundfile.write(tmp_path / "a.wav", samples, 16000, subtype=subtype)
        assert set(read(tmp_path / "a.wav", excerpt=Excerpt(0.5))) == {0.5}
        with pytest.raises(AudioError, match="NaN"):
            read(tmp_path / "a.wav")


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_ten_seconds_of_three_hours_are_read_in_less_than_a_tenth_of_a_second(tmp_path, format):
    path, rate, place = tmp_path / "a.bin", 4000, 9000
    minute, marked = np.zeros(60 * rate, np.int16), np.arange(10 * rate, dtype=np.int16)
    with soundfile.SoundFile(path, "w", rate, 1, format=format, subtype="PCM_16") as file:
        for start in range(0, HOURS_3, 60):
            file.write(np.concatenate([marked, minute[len(marked) :]]) if start == place else minute)
    best = np.inf
    for _ in range(3):  # the machine may be busy
        begin = time.perf_counter()
        found = read(path, rate, Excerpt(place, 10.0))
        best = min(best, time.perf_counter() - begin)
    np.testing.assert_array_equal(found, marked / np.float32(32768))
    assert best < 0.1
    assert audio_info(path).seconds == audio_duration(path) == HOURS_3
