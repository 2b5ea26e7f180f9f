# SPDX-License-Identifier: Apache-2.0
"""Files with wrong headers are read whole with their true duration, or refused by reading and duration alike."""

import struct

import numpy as np
import pytest
from runtime.audio.files import RATE, SAMPLES, WHOLE, bytes_of, flac_that_claims, length, mp3, refusal, save, speech

from ee_runtime.audio import AudioError, audio_duration, flac


def fields(format, data):
    """Positions and formats of the sizes in a header, and the bytes that they count in addition to the samples."""
    if format in ("WAV", "WAVEX"):
        place = data.index(b"data") + 4
        return [(place, "<I", 0, 1)]
    if format == "RF64":
        return [(data.index(b"ds64") + 16, "<Q", 0, 1)]
    if format == "W64":
        return [(data.index(b"data", 40) + 16, "<Q", 24, 1)]
    if format == "AIFF":
        return [(data.index(b"SSND") + 4, ">I", 8, 1), (data.index(b"COMM") + 10, ">I", 0, 2)]
    if format == "AU":
        return [(8, "<I" if data[:4] == b"dns." else ">I", 0, 1)]
    return [(data.index(b"data") + 4, ">Q", 4, 1)]  # CAF


def claim(format, data, num_bytes):
    for place, form, more, unit in fields(format, data):
        number = num_bytes if isinstance(num_bytes, str) else num_bytes // unit + more
        limit = (1 << 8 * struct.calcsize(form)) - 1
        struct.pack_into(form, data, place, {"zeros": 0, "ones": limit}.get(number, number))
    return data


CHUNKED = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"]


@pytest.mark.parametrize("format", CHUNKED)
@pytest.mark.parametrize("size", ["zeros", "ones"])
def test_a_size_that_was_never_filled_in(tmp_path, notes, format, size):
    path = save(tmp_path, claim(format, bytes_of(format, subtype="PCM_16"), size))
    assert audio_duration(path) == WHOLE
    assert length(path) == SAMPLES
    assert notes() == []


@pytest.mark.parametrize("format", CHUNKED)
def test_a_size_beyond_the_end_of_the_file(tmp_path, format):
    path = save(tmp_path, claim(format, bytes_of(format, subtype="PCM_16"), 4 * SAMPLES))
    assert "breaks off: only 50% of the audio that its header claims" in refusal(path)


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "AIFF", "AU"])
def test_a_size_that_ends_among_the_samples(tmp_path, notes, format):
    path = save(tmp_path, claim(format, bytes_of(format, subtype="PCM_16"), SAMPLES))
    assert audio_duration(path) == WHOLE
    assert length(path) == SAMPLES
    (note,) = notes()
    assert "its header counts 40000 bytes of samples where 80000 follow: all are read" in note


@pytest.mark.parametrize(
    "tail", [b"TAG" + bytes(125), bytes(500), b"LIST\x04\0\0\0abcd"], ids=["tag", "zeros", "chunk"]
)
def test_what_is_no_sample_behind_the_samples(tmp_path, notes, tail):
    path = save(tmp_path, bytes_of("WAV") + tail)
    assert (audio_duration(path), length(path), notes()) == (WHOLE, SAMPLES, [])


@pytest.mark.parametrize(
    ("format", "subtype"),
    [(one, "PCM_16") for one in [*CHUNKED, "FLAC", "NIST"]]
    + [("WAV", "PCM_U8"), ("WAV", "DOUBLE"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("CAF", "ALAC_16"), ("MP3", None)],
)
def test_a_file_cut_in_its_middle_is_refused(tmp_path, format, subtype):
    data = bytes_of(format, subtype=subtype)
    assert "breaks off" in refusal(save(tmp_path, data[: len(data) * 6 // 10 + 1]))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_cut_in_its_middle_is_read_with_a_note(tmp_path, notes, subtype):
    data = bytes_of("OGG", np.tile(speech(), 3), subtype=subtype)
    path = save(tmp_path, data[: len(data) * 6 // 10])
    assert length(path) == round(RATE * audio_duration(path))
    assert 0.3 < audio_duration(path) / (3 * WHOLE) <= 0.62
    (note,) = notes()
    assert "breaks off in the middle of a page" in note
    assert "breaks off before its first sample" in refusal(save(tmp_path, data[:4000]))


def test_flac_of_open_length(tmp_path, notes):
    path = save(tmp_path, flac_that_claims(0))
    assert (audio_duration(path), length(path), notes()) == (WHOLE, SAMPLES, [])


def test_flac_that_claims_half(tmp_path, notes):
    path = save(tmp_path, flac_that_claims(SAMPLES // 2))
    assert (audio_duration(path), length(path)) == (WHOLE, SAMPLES)
    assert "counts 20000 samples where 40000 are: all are read" in notes()[0]


@pytest.mark.parametrize(("samples", "share"), [(2 * SAMPLES, "50%"), (30 * 3600 * RATE, "0%")])
def test_flac_that_claims_more_than_there_is(tmp_path, samples, share):
    assert f"breaks off: only {share} of the audio that its header claims (2.50 s)" in refusal(
        save(tmp_path, flac_that_claims(samples))
    )


def test_flac_of_open_length_that_breaks_off_is_read_up_to_the_last_whole_frame(tmp_path, notes):
    data = flac_that_claims(0)
    path = save(tmp_path, data[: len(data) * 6 // 10])
    assert length(path) == round(RATE * audio_duration(path)) == 5 * 4096
    assert "breaks off in the middle of a frame" in notes()[0]


def test_flac_behind_and_before_tags(tmp_path):
    tag = b"ID3\x04\0\0\0\0\x01\x02" + bytes(130)  # 1 * 128 + 2 bytes
    path = save(tmp_path, tag + bytes_of("FLAC") + b"TAG" + bytes(125))
    assert (audio_duration(path), length(path)) == (WHOLE, SAMPLES)


def test_flac_of_another_depth_rate_and_number_of_channels(tmp_path):
    data = bytes_of("FLAC", speech(channels=3), 22051, subtype="PCM_24")
    path = save(tmp_path, data)
    assert audio_duration(path) == SAMPLES / 22051
    assert "breaks off" in refusal(save(tmp_path, data[: len(data) // 2]))


def test_head_and_sum_of_a_flac_frame_by_hand():
    # 4096 samples, 44.1 kHz, stereo, 16 bits, frame 0; sum 0xC2, the first frame of many files
    head = bytes.fromhex("fff8c91800c2")
    assert flac.parse_frame(head, 4096) == flac.Frame(0, 4096, (0, 8))
    assert flac.parse_frame(head[:5] + b"\xc3", 4096) is None
    assert flac.crc16(b"123456789") == 0xFEE8  # the check value of CRC-16/UMTS


def counter(data):
    return max(data.find(b"Xing"), data.find(b"Info")) + 8


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
def test_mp3_without_a_count_is_read_to_its_end(tmp_path, notes, mode):
    path = save(tmp_path, mp3(mode, counted=False))
    # 72 frames of 576 samples, less the decoder's delay of 529
    assert length(path) == round(RATE * audio_duration(path)) == 72 * 576 - 529
    assert notes() == []


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_that_counts_half_or_twice(tmp_path, notes, mode):
    data = mp3(mode)
    place = counter(data)
    (frames,) = struct.unpack_from(">I", data, place)
    struct.pack_into(">I", data, place, frames // 2)
    path = save(tmp_path, data)
    assert (audio_duration(path), length(path)) == (WHOLE, SAMPLES)
    assert "its header counts 36 frames where 72 are: all are read" in notes()[0]
    struct.pack_into(">I", data, place, frames * 2)
    assert "breaks off: only 50%" in refusal(save(tmp_path, data))


def test_mp3_of_two_files_with_tags_between_them(tmp_path, notes):
    tag = b"ID3\x04\0\0\0\0\x01\x02" + bytes(130)
    path = save(tmp_path, tag + mp3("CONSTANT") + b"TAG" + bytes(125) + tag + mp3("CONSTANT"))
    assert 2 * WHOLE < audio_duration(path) < 2 * WHOLE + 0.2
    assert length(path) == round(RATE * audio_duration(path))


@pytest.mark.parametrize("breakage", ["cut", "gap", "hole", "tail"])
def test_broken_mp3_says_nothing_but_our_line(tmp_path, notes, capfd, breakage):
    data, noise = mp3("VARIABLE", counted=False), np.random.default_rng(0).bytes(3000)
    broken = {"cut": data[:5001], "gap": data[:4000] + noise + data[4000:]}
    broken |= {"hole": data[:4000] + noise[:1000] + data[5000:], "tail": data + noise}
    path = save(tmp_path, broken[breakage])
    assert 0.5 * WHOLE < length(path) / RATE < 1.1 * WHOLE
    wanted = {
        "cut": "breaks off in the middle of a frame",
        "gap": "3000 bytes between its frames",
        "hole": "bytes between",
        "tail": "3000 bytes after its last frame are not audio and are not read",
    }
    assert wanted[breakage] in notes()[0]
    assert all(str(path) in note for note in notes())
    assert capfd.readouterr().err == ""


def test_one_frame_of_mp3(tmp_path, capfd):
    data = mp3("CONSTANT", counted=False)
    path = save(tmp_path, data[: data.index(data[:2], 4)])
    assert 0 < audio_duration(path) < 0.05
    assert length(path) > 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("format", [*CHUNKED, "FLAC", "OGG", "MP3", "NIST"])
def test_a_file_that_ends_anywhere_in_its_header(tmp_path, format):
    data = bytes_of(format, speech(2000))
    for size in range(1, min(len(data) - 1, 200), 3):
        path = save(tmp_path, data[:size])
        for call in (audio_duration, length):
            try:
                assert call(path) > 0
            except AudioError as error:
                assert str(path) in str(error) and "\n" not in str(error)


def chunk(format, name, body):
    """A chunk in a format."""
    if format == "W64":
        return name.ljust(16, b"\x5a") + struct.pack("<Q", len(body) + 24) + body
    form = {"CAF": ">q", "AIFF": ">I"}.get(format, "<I")
    return name + struct.pack(form, len(body)) + body + bytes(0 if format == "CAF" else len(body) % 2)


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF"])
@pytest.mark.parametrize("names", [[b"note"], [b"id3 ", b"info"]])
def test_a_size_of_zero_before_other_chunks_is_true(tmp_path, format, names):
    text = b"textual " * 500 if format == "W64" else b"textual" * 501  # an odd number, padded
    empty = claim(format, bytes_of(format, np.zeros(0), subtype="PCM_16"), 0)
    chunks = b"".join(chunk(format, name, text) for name in names)
    assert "is empty (0 samples): leave it out" in refusal(save(tmp_path, empty + chunks))
    for behind in (b"", b"TAG" + bytes(125), chunks + b"TAG" + bytes(125)):
        assert "is empty (0 samples)" in refusal(save(tmp_path, empty + behind))


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF"])
def test_samples_of_open_length_that_begin_like_a_chunk_are_read(tmp_path, format):
    samples = np.frombuffer(chunk(format, b"note", b"") + bytes(speech(500).astype("<f8"))[: 4000 - 80], "<i2")
    data = bytes_of(format, samples, subtype="PCM_16")
    assert length(save(tmp_path, claim(format, data, "zeros"))) == len(samples)


def test_aiff_whose_frames_were_not_counted_ends_where_its_samples_do(tmp_path, notes):
    data = bytes_of("AIFF", subtype="PCM_16")
    struct.pack_into(">I", data, data.index(b"COMM") + 10, 0)
    path = save(tmp_path, data + chunk("AIFF", b"NAME", b"textual " * 500))
    assert (audio_duration(path), length(path), notes()) == (WHOLE, SAMPLES, [])


def test_a_chunk_that_claims_more_than_any_file_holds(tmp_path):
    data = bytes_of("CAF", subtype="PCM_16")
    struct.pack_into(">q", data, 12, (1 << 63) - 100)  # the size of the first chunk, which libsndfile ignores
    assert length(save(tmp_path, data)) == SAMPLES
