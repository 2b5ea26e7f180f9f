# SPDX-License-Identifier: Apache-2.0
"""Speech synthesis with espeak-ng through ctypes, at 16 kHz, with reproducible samples.

Requires the extra ``[synth]``: the espeakng-loader wheel is GPL-3, and only this module imports it.
"""

import ctypes
import os
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import signal as dsp

SAMPLE_RATE = 16000  # of ``say``


class SynthesisError(RuntimeError):
    """Speech cannot be synthesized; the message is one line that says what to do."""


@dataclass(frozen=True)
class Speaker:
    """A synthetic speaker: an espeak-ng voice, its pitch (0 to 99) and rate (words per minute)."""

    voice: str
    pitch: int
    rate: int

    @property
    def name(self) -> str:
        """Speaker label in the manifest."""
        return f"{self.voice}-p{self.pitch}"


class Espeak:
    """espeak-ng without an audio device.

    Raises
    ------
    SynthesisError
        If the wheel is missing, or its library or data are unusable.

    Example
    -------
    >>> _ = __import__("pytest").importorskip("espeakng_loader")
    >>> samples = Espeak().speak("open the door", Speaker("en-us+f2", pitch=50, rate=180))
    >>> samples.dtype, 0.5 < len(samples) / Espeak.sample_rate < 1.5
    (dtype('float32'), True)
    """

    sample_rate = 22050
    _SYNCHRONOUS, _DONT_EXIT, _UTF8, _RATE, _PITCH = 2, 0x8000, 1, 1, 3
    _CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def __init__(self):
        try:
            import espeakng_loader
        except ImportError:
            raise SynthesisError(
                'the synthetic corpus needs espeak-ng, which is not installed: pip install "speechbrain_ee[synth]"'
            ) from None
        self._library_path = str(espeakng_loader.get_library_path())
        self._data_path = str(espeakng_loader.get_data_path())
        if len(self._data_path) > 140:  # its buffer for file names has 160 bytes
            raise SynthesisError(
                f"espeak-ng cannot open its data at a path this long: {self._data_path}: "
                "move the virtual environment to a shorter path"
            )
        self._chunks: list[np.ndarray] = []
        self._callback = self._CALLBACK(self._collect)  # a reference, so that it is not freed while in use

    def _collect(self, samples, num_samples: int, _events) -> int:
        if samples and num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        return 0

    def speak(self, text: str, speaker: Speaker) -> np.ndarray:
        """Synthesize one sentence: text -> samples (num_samples,), float32 in [-1, 1] at 22050 Hz."""
        # The library keeps hidden state between utterances, which espeak_Terminate does not clear. Loading it anew
        # (about 3 ms) makes the samples depend on the arguments alone.
        library = self._open()
        try:
            if library.espeak_SetVoiceByName(speaker.voice.encode()) != 0:
                raise SynthesisError(f"espeak-ng has no voice {speaker.voice!r}")
            library.espeak_SetParameter(self._RATE, speaker.rate, 0)
            library.espeak_SetParameter(self._PITCH, speaker.pitch, 0)
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            if os.name == "posix":
                ctypes.CDLL(None).srand(1)  # breathy Klatt voices use C's rand()
            self._chunks.clear()
            spoken = text.encode()
            library.espeak_Synth(spoken, len(spoken) + 1, 0, 1, 0, self._UTF8, None, None)
        finally:
            self._close(library)
        if not self._chunks:
            raise SynthesisError(f"espeak-ng gave no sound for {text!r} ({speaker.voice})")
        return np.concatenate(self._chunks).astype(np.float32) / 32768

    def _open(self) -> ctypes.CDLL:
        try:
            library = ctypes.CDLL(self._library_path)
        except OSError as error:
            raise SynthesisError(f"espeak-ng cannot be loaded: {error}") from None
        data = self._data_path.encode()
        rate = library.espeak_Initialize(self._SYNCHRONOUS, 200, data, self._DONT_EXIT)
        if rate != self.sample_rate:
            self._unload(library)  # an open copy would keep its state for later utterances
            raise SynthesisError(f"espeak-ng cannot use its data at {self._data_path}: reinstall espeakng-loader")
        library.espeak_SetSynthCallback(self._callback)
        return library

    def _close(self, library: ctypes.CDLL) -> None:
        library.espeak_Terminate()
        self._unload(library)

    @staticmethod
    def _unload(library: ctypes.CDLL) -> None:
        if os.name == "posix":
            ctypes.CDLL(None).dlclose(ctypes.c_void_p(library._handle))


@lru_cache(maxsize=1)
def _resampling_filter() -> tuple[int, int, np.ndarray]:
    """Return factors and low-pass filter of ``resample_poly`` for 22050 to 16000 Hz, which is 320 / 441."""
    up, down = 320, 441
    taps = dsp.firwin(20 * down + 1, 1 / down, window=("kaiser", 5.0))
    return up, down, taps.astype(np.float32)


def say(espeak: Espeak, text: str, speaker: Speaker) -> np.ndarray:
    """Synthesize at 16 kHz, without silence at both ends."""
    up, down, taps = _resampling_filter()
    samples = dsp.resample_poly(espeak.speak(text, speaker), up, down, window=taps)
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]
