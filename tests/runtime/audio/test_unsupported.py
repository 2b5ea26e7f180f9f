# SPDX-License-Identifier: Apache-2.0
"""Errors of unsupported files name the kind of file and the remedy."""

import json

import numpy as np
import pytest
from runtime.audio.files import bytes_of, save, speech

from ee_runtime.audio import AudioError, audio_duration, read_blocks

NOISE = np.random.default_rng(0).bytes(5000)
FFMPEG_TO_ANOTHER_FILE = "ffmpeg -i a.WAV a-converted.wav"
FFMPEG = "which is not supported: convert it, e.g. ffmpeg -i a.bin a.wav"
KINDS = {
    "m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + NOISE, "is MPEG-4 (M4A, MP4: AAC), " + FFMPEG),
    "3gp": (b"\0\0\0\x20ftyp3gp4" + NOISE, "is 3GPP (AMR or AAC), " + FFMPEG),
    "webm": (b"\x1aE\xdf\xa3" + NOISE, "is Matroska or WebM, " + FFMPEG),
    "wma": (bytes.fromhex("3026b2758e66cf11") + NOISE, "is Windows Media (WMA, WMV), " + FFMPEG),
    "amr": (b"#!AMR\n" + NOISE, "is AMR, " + FFMPEG),
    "aac": (bytes.fromhex("fff150801ffc") + NOISE, "is AAC, " + FFMPEG),
    "avi": (b"RIFF\0\0\0\0AVI " + NOISE, "is AVI video, " + FFMPEG),
    "speex": (b"OggS" + bytes(24) + b"Speex   " + NOISE, "is Speex, " + FFMPEG),
    "gzip": (b"\x1f\x8b" + NOISE, "is an archive or compressed: unpack it"),
    "png": (b"\x89PNG" + NOISE, "is a picture, not audio: give the right file"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\n",
        "is a pointer of Git LFS, not the file itself: run git lfs pull",
    ),
    "html": (b"\n<!DOCTYPE html><html>", "is a web page, not audio: the download failed, fetch it again"),
    "json": (json.dumps({"text": "\u0142\u00f3d\u017a" * 99}, ensure_ascii=False).encode(), "is text, not audio"),
    "zeros": (bytes(5000), "begins with zeros instead of a header"),
    "nothing": (b"", "is empty (0 bytes): leave it out"),
    "noise": (NOISE, "is not audio of a supported format"),
    "voc": (bytes(bytes_of("VOC", subtype="PCM_16")), "is VOC (Creative Labs), " + FFMPEG),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_read_is_called_by_its_kind(tmp_path, kind):
    data, wanted = KINDS[kind]
    path = save(tmp_path, data)
    for call in (audio_duration, lambda path: list(read_blocks(path))):
        with pytest.raises(AudioError) as caught:
            call(path)
        assert str(caught.value).startswith(f"audio {path} {wanted}")


@pytest.mark.parametrize("name", ["a.raw", "A.PCM", "a b.s16"])
def test_samples_without_a_header(tmp_path, name):
    path = save(tmp_path, (speech() * 32767).astype("<i2").tobytes(), name)
    with pytest.raises(AudioError, match="has no header .* ffmpeg -f s16le -ar 16000 -ac 1 -i '?[aA]"):
        audio_duration(path)
    assert audio_duration(save(tmp_path, bytes_of("WAV"), name)) == 2.5  # the suffix is ignored


def test_the_command_that_converts_a_file_does_not_write_over_it(tmp_path):
    (tmp_path / "a.WAV").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(AudioError) as refused:
        audio_duration(tmp_path / "a.WAV")
    assert FFMPEG_TO_ANOTHER_FILE in str(refused.value)
