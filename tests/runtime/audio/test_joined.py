# SPDX-License-Identifier: Apache-2.0
"""Joined, tagged and padded files are read whole, or refused, or read with a warning."""

import io

import numpy as np
import pytest
from runtime.audio.files import RATE, SAMPLES, WHOLE, bytes_of, flac_that_claims, length, mp3, refusal, save, speech

from ee_runtime.audio import AudioError, audio_duration, flac, layout

NOISE = np.random.default_rng(0).bytes(100_000)
COVER = NOISE.replace(b"\xff", b"\xff\xff")


def ape(body, *, header=True):
    """An APEv2 tag; its size counts the footer."""
    size = (len(body) + 32).to_bytes(4, "little")
    head, foot = (
        b"APETAGEX" + bytes([208, 7, 0, 0]) + size + b"\1\0\0\0" + flags for flags in (b"\0\0\0\xa0", b"\0\0\0\x80")
    )
    return (head + bytes(8) if header else b"") + body + (foot if header else foot[:-1] + b"\0") + bytes(8)


ID3V1 = b"TAG" + bytes(125)
LYRICS = b"LYRICSBEGININD0000200" + b"000021LYRICS200"
END_TAGS = {
    "id3v1": ID3V1,
    "ape": ape(COVER),
    "ape-1": ape(COVER, header=False),
    "lyrics": LYRICS + ID3V1,
    "all": ape(COVER) + LYRICS + ID3V1,
}


@pytest.mark.parametrize("tag", END_TAGS)
def test_tags_behind_audio_are_measured_by_hand(tag):
    data = b"audio" + END_TAGS[tag]
    assert layout.skip_end_tags(io.BytesIO(data), len(data)) == 5


@pytest.mark.parametrize("size", [0, 3, 31, 32, 127])
def test_tags_that_are_larger_than_the_file_are_none(size):
    data = ape(bytes(200))[-size:] if size else b""
    assert layout.skip_end_tags(io.BytesIO(data), len(data)) == size


@pytest.mark.parametrize("tag", END_TAGS)
def test_flac_of_open_length_before_tags(tmp_path, notes, tag):
    path = save(tmp_path, flac_that_claims(0) + END_TAGS[tag])
    assert (audio_duration(path), length(path), notes()) == (WHOLE, SAMPLES, [])


def flac_with_a_false_head(claimed):
    """FLAC with uncompressed noise; the samples of the last frame contain the six bytes of a frame header."""
    samples = np.random.default_rng(0).integers(-32768, 32768, SAMPLES).astype(">i2")
    false = bytes.fromhex("fff8c9080100")
    false = false[:5] + bytes([flac._crc8(false[:5])])
    samples[-900:-897] = np.frombuffer(false, ">i2")
    data = bytes_of("FLAC", samples.astype(np.int16))
    assert data.rindex(false) > len(data) - 2000 and flac.parse_frame(false, 4096) == (4096, 4096, (0, 8))
    data[18:26] = (int.from_bytes(data[18:26], "big") >> 36 << 36 | claimed).to_bytes(8, "big")
    return data


@pytest.mark.parametrize("claimed", [SAMPLES, 0, SAMPLES // 2])
def test_samples_that_look_like_the_head_of_a_flac_frame(tmp_path, notes, claimed):
    path = save(tmp_path, flac_with_a_false_head(claimed))
    assert (audio_duration(path), length(path)) == (WHOLE, SAMPLES)
    assert len(notes()) == (claimed == SAMPLES // 2)


def test_a_false_head_in_a_flac_that_breaks_off(tmp_path, notes):
    data = flac_with_a_false_head(0)
    path = save(tmp_path, data[:-100])
    assert length(path) == round(RATE * audio_duration(path)) == SAMPLES // 4096 * 4096  # less the last frame
    assert "breaks off in the middle of a frame" in notes()[0]


@pytest.mark.parametrize("between", ["zeros", "noise", "ape", "ape and id3"])
def test_mp3_behind_a_gap_of_any_size(tmp_path, notes, between):
    tag = b"ID3\x04\0\x10\0\x06\x0d\x20" + COVER[:100_000] + b"3DI" + bytes(7)  # 6 * 2**14 + 13 * 128 + 32 bytes
    gap = {"zeros": bytes(100_000), "noise": NOISE, "ape": ape(COVER), "ape and id3": ID3V1 + ape(COVER) + tag}[between]
    path = save(tmp_path, mp3("CONSTANT", counted=False) + gap + mp3("CONSTANT", counted=False))
    assert 2 * WHOLE < audio_duration(path) < 2 * WHOLE + 0.2
    assert length(path) == round(RATE * audio_duration(path))
    said = [] if "ape" in between else ["100000 bytes between its frames are not audio and were skipped"]
    assert [note.split(": ")[-1] for note in notes()] == said


@pytest.mark.parametrize("tag", [*END_TAGS, "zeros"])
def test_mp3_before_tags_and_zeros(tmp_path, notes, tag):
    path = save(tmp_path, mp3("VARIABLE") + (END_TAGS | {"zeros": bytes(100_000)})[tag])
    assert (audio_duration(path), length(path), notes()) == (WHOLE, SAMPLES, [])


def test_mp3_says_all_that_is_odd(tmp_path, notes):
    one = mp3("CONSTANT")
    path = save(tmp_path, one + NOISE[:999] + one + NOISE[:500])
    assert length(path) > 2 * SAMPLES
    assert [part in notes()[0] for part in ("counts 72 frames where 145", "999 bytes between", "500 bytes after")] == [
        True
    ] * 3


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("other", [{"rate": 24000}, {"rate": 44100}, {"samples": speech(channels=2)}])
def test_mp3_of_several_kinds_is_refused(tmp_path, other, order):
    parts = [bytes_of("MP3"), bytes_of("MP3", **other)][::order]
    for between in (b"", ID3V1, NOISE[:3000]):
        said = refusal(save(tmp_path, parts[0] + between + parts[1]))
        assert "holds MP3 of several rates, layers or numbers of channels" in said and "ffmpeg -i a.bin a.wav" in said
    assert "holds MP3 of several" in refusal(save(tmp_path, parts[0] + parts[1] + parts[0]))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_of_several_streams_is_refused(tmp_path, subtype):
    one, other = bytes_of("OGG", subtype=subtype), bytes_of("OGG", speech(20000), subtype=subtype)
    for joined in (one + other, one + one, one + other + one):  # the serial number of the last may be that of the first
        said = refusal(save(tmp_path, joined))
        assert "holds several streams (joined files)" in said and "ffmpeg -i a.bin a.wav" in said
    assert length(save(tmp_path, one)) == SAMPLES


def test_mp3_behind_an_id3_tag_and_padding(tmp_path, notes, capfd):
    path = save(tmp_path, b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + bytes(300) + mp3("CONSTANT"))
    assert (audio_duration(path), length(path), notes(), capfd.readouterr().err) == (WHOLE, SAMPLES, [], "")


@pytest.mark.parametrize("start", [b"\xff\xfb\x90\x64", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), b"\1\2\3"])
def test_what_begins_like_mp3_and_is_none_says_nothing_but_our_line(tmp_path, capfd, start):
    for size in (20, 300, 5000):
        path = save(tmp_path, start + NOISE[:size])
        for call in (audio_duration, length):
            with pytest.raises(AudioError, match="a.bin"):
                call(path)
    assert capfd.readouterr().err == ""


def test_mp3_cut_at_any_byte_of_its_first_frames_says_nothing_but_our_line(tmp_path, capfd):
    data = mp3("CONSTANT", counted=False)
    for size in range(10, 700, 23):
        path = save(tmp_path, data[:size])
        for call in (audio_duration, length):
            try:
                assert call(path) > 0
            except AudioError as error:
                assert "a.bin" in str(error) and "\n" not in str(error)
    assert capfd.readouterr().err == ""
