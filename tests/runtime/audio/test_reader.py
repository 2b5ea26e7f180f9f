# SPDX-License-Identifier: Apache-2.0
"""Files, pipes, folders and devices; sample rates, levels and channels of files."""

import errno
import io
import os
import signal
import socket
import threading

import numpy as np
import pytest
import soundfile
from runtime.audio.files import RATE, bytes_of, save, speech

from ee_runtime.audio import AudioError, audio_duration, read_blocks, reader, source


def read(path, rate=RATE):
    return np.concatenate(list(read_blocks(path, rate)))


def refusal(call, path):
    with pytest.raises(AudioError) as caught:
        call(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("call", [audio_duration, read])
def test_what_is_no_file_is_called_by_its_name(tmp_path, call):
    assert "a.wav does not exist: check the path" in refusal(call, tmp_path / "a.wav")
    assert "is a folder: give the files in it" in refusal(call, tmp_path)
    assert "is a device" in refusal(call, "/dev/null")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "s"))
        assert "is a socket" in refusal(call, tmp_path / "s")
    assert "cannot be opened" in refusal(call, "a\0b.wav")
    assert "cannot be opened (File name too long)" in refusal(call, tmp_path / ("a" * 300))
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "cannot be opened" in refusal(call, tmp_path / "circle")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = save(tmp_path, bytes_of("WAV"))
    path.chmod(0)
    assert "cannot be opened (Permission denied)" in refusal(read, path)


def test_names_with_line_breaks_and_bytes_that_are_not_utf_8(tmp_path):
    for name in (b"a\nb\t.wav", b"caf\xe9.wav"):
        path = os.path.join(tmp_path, os.fsdecode(name))
        assert "does not exist" in refusal(read, path)
        refusal(read, path).encode("utf-8")
        save(tmp_path, bytes_of("WAV"), os.fsdecode(name))
        assert audio_duration(path) == 2.5
        assert len(read(path)) == 40000


def test_a_named_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    wanted = read(save(tmp_path, bytes_of("FLAC")))
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(bytes_of("FLAC")))
    writer.start()
    np.testing.assert_array_equal(read(tmp_path / "pipe"), wanted)
    writer.join()
    assert "is a pipe, which can be read only once" in refusal(audio_duration, tmp_path / "pipe")


def test_a_pipe_that_nobody_writes_to_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "PIPE_WAIT_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe that nobody has written to" in refusal(read, tmp_path / "pipe")


@pytest.mark.parametrize("rate", [1, 2, 3999, 768_001, 2_000_000_000])
def test_rates_of_no_speech_are_refused_by_their_number(tmp_path, rate):
    data = bytes_of("WAV")
    data[24:28] = rate.to_bytes(4, "little")
    for call in (audio_duration, read):
        assert f"a sample rate of {rate} Hz in its header, and 4000 to 768000 Hz are read" in refusal(
            call, save(tmp_path, data)
        )


@pytest.mark.parametrize("rate", [8000, 11127, 12345, 22051, 44101, 47999, 96001, 192000])
def test_any_rate_keeps_a_tone(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)
    found = read(save(tmp_path, bytes_of("WAV", tone, rate, subtype="FLOAT")))
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(found)) / RATE)
    assert len(found) == round(len(tone) * RATE / rate)
    # The tone rings at its start and end; the resampler has a precision of 20 bits.
    np.testing.assert_allclose(found[500:-500], wanted[500:-500], atol=1e-4, rtol=0)


def test_many_channels_and_less_than_a_sample(tmp_path):
    three = read(save(tmp_path, bytes_of("WAV", speech(channels=3), subtype="PCM_24")))
    np.testing.assert_allclose(three, speech(), atol=2e-7, rtol=0)
    assert read(save(tmp_path, bytes_of("WAV", np.array([0.5]), 48000))).tolist() == [0.5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused_wherever_they_are(tmp_path, value):
    samples = speech(2_000_000)  # more than a block
    samples[-1] = value
    for subtype in ("FLOAT", "DOUBLE"):
        path = save(tmp_path, bytes_of("WAV", samples, subtype=subtype))
        assert "has samples that are NaN or infinite" in refusal(read, path)


def test_a_long_file_is_read_in_blocks_that_are_the_file(tmp_path):
    stereo = np.stack([speech(3_000_000), 0.5 * speech(3_000_000)], axis=1)
    path = save(tmp_path, bytes_of("WAV", stereo, subtype="FLOAT"))
    blocks = list(read_blocks(path))
    assert max(map(len, blocks)) <= 1 << 18 and len(blocks) > 10
    np.testing.assert_allclose(np.concatenate(blocks), 0.75 * speech(3_000_000), atol=1e-7, rtol=0)


def test_too_little_memory_is_an_error_of_the_file(tmp_path, monkeypatch):
    def read_nothing(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(soundfile.SoundFile, "read", read_nothing)
    assert "a.bin needs more memory than available" in refusal(read, save(tmp_path, bytes_of("WAV")))


class FailingDisk(io.BytesIO):
    """A file that fails after 20000 bytes."""

    def read(self, count=-1):
        if self.tell() >= 20_000:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(count)


class InterruptedFile(io.FileIO):
    """A file that counts its reads; during one of them, Ctrl-C is pressed."""

    reads, interrupted = 0, None

    def read(self, count=-1):
        self.reads += 1
        if self.reads == self.interrupted:
            signal.raise_signal(signal.SIGINT)
        return super().read(count)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_ctrl_c_is_not_lost_in_a_decoder(tmp_path, monkeypatch, capfd, kind):
    """A decoder in C would print the exception, drop it, and take the file for one that breaks off."""
    path = save(tmp_path, bytes_of(kind))
    read(path)  # the second time, less of some formats is read
    file = InterruptedFile(path)
    monkeypatch.setattr(reader, "open_source", lambda path, may_be_pipe: file)
    read(path)
    number = file.reads
    assert number > 2
    for interrupted in range(1, number + 1):
        file = InterruptedFile(path)
        file.interrupted = interrupted
        with pytest.raises(KeyboardInterrupt):
            read(path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert capfd.readouterr().err == ""


def test_a_disk_that_fails_is_no_file_that_breaks_off(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(reader, "open_source", lambda path, may_be_pipe: FailingDisk(bytes(bytes_of("WAV"))))
    assert "cannot be read (Input/output error): check its disk" in refusal(read, "a.wav")
    assert capfd.readouterr().err == ""
