# SPDX-License-Identifier: Apache-2.0
"""Features in a form that ONNX can express: the Fourier transform as a matrix product."""

import math

import torch
from torch import nn

from speechbrain_ee.lobes.features import Features, LogMel
from speechbrain_ee.lobes.padding import zero_padding
from speechbrain_ee.lobes.pretrained.waveform import Waveform
from speechbrain_ee.lobes.pretrained.whisper_features import HOP, N_FFT, WhisperLogMel


class FourierPower(nn.Module):
    """Power spectrum of overlapping frames, equal to that of ``torch.stft`` up to rounding.

    The sums and differences of samples at equal distances from the middle give the real and imaginary parts with half
    the operations. A symmetric window is part of the matrices; others, such as a Hamming window that is shorter than
    the transform, are multiplied with the frames. Frames are cut as blocks of the greatest common divisor of window and
    hop, because taking single samples by index costs more than the transform.

    Arguments
    ---------
    window : torch.Tensor
        (window samples,).
    n_fft : int
        Size of the Fourier transform, even; a shorter window is centred in it, as in ``torch.stft``.
    hop : int
        Distance of frames in samples.

    Raises
    ------
    ValueError
        If the size is odd.

    Example
    -------
    >>> power = FourierPower(torch.hann_window(400), 400, 160)
    >>> power(torch.randn(2, 800)).shape
    torch.Size([2, 3, 201])
    """

    def __init__(self, window: torch.Tensor, n_fft: int, hop: int):
        super().__init__()
        left = (n_fft - len(window)) // 2
        window = nn.functional.pad(window.cpu().double(), (left, n_fft - len(window) - left))
        if n_fft % 2:
            raise ValueError(f"a Fourier transform of n_fft={n_fft} samples cannot be exported: n_fft must be even")
        self.is_symmetric = torch.allclose(window[1:], window[1:].flip(0), atol=1e-6)
        self.register_buffer("window", window.float(), persistent=False)
        self.n_fft, self.hop, self.block = n_fft, hop, math.gcd(n_fft, hop)
        half = n_fft // 2
        angles = 2 * math.pi / n_fft * torch.outer(torch.arange(n_fft), torch.arange(half + 1)).cpu().double()
        factors = window[:, None] if self.is_symmetric else torch.ones_like(window)[:, None]
        cosines, sines = factors * angles.cos(), factors * angles.sin()
        self.register_buffer("cosines", cosines[: half + 1].float(), persistent=False)
        self.register_buffer("sines", sines[1:half].float(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Signals (batch, samples) -> (batch, 1 + (samples - n_fft) // hop, n_fft // 2 + 1)."""
        frames, half = self._frames(x), self.n_fft // 2
        if not self.is_symmetric:
            frames = frames * self.window
        ahead, back = frames[..., 1:half], frames[..., half + 1 :].flip(-1)
        sums = torch.cat([frames[..., :1], ahead + back, frames[..., half : half + 1]], -1)
        return (sums @ self.cosines).square() + ((ahead - back) @ self.sines).square()

    def _frames(self, x: torch.Tensor) -> torch.Tensor:
        num_frames = 1 + (x.shape[1] - self.n_fft) // self.hop
        room = nn.functional.pad(x, (0, self.block))
        blocks = room[:, : room.shape[1] // self.block * self.block].reshape(x.shape[0], -1, self.block)
        step = self.hop // self.block
        last = (num_frames - 1) * step + 1
        return torch.cat([blocks[:, start : start + last : step] for start in range(self.n_fft // self.block)], 2)


class LogMelForm(nn.Module):
    """Export form of :class:`~speechbrain_ee.lobes.features.LogMel`: (wavs, num_samples) -> (feats, num_frames)."""

    def __init__(self, features: LogMel):
        super().__init__()
        stft = features.fbank.compute_STFT
        self.features = features
        self.power = FourierPower(stft.window, features.n_fft, features.hop_samples)

    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        features, half = self.features, self.features.n_fft // 2
        wavs = nn.functional.pad(zero_padding(wavs, num_samples), (half, half))
        feats = features.fbank.compute_fbanks(self.power(wavs))
        return (feats - features.mean) / features.std, features.num_frames(num_samples)


class WhisperLogMelForm(nn.Module):
    """Export form of :class:`~speechbrain_ee.lobes.pretrained.whisper_features.WhisperLogMel`."""

    def __init__(self, features: WhisperLogMel):
        super().__init__()
        self.features = features
        self.power = FourierPower(features.window, N_FFT, HOP)

    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        features = self.features
        samples = torch.sym_max(wavs.shape[1], features.shortest)
        power = self.power(features.reflected(wavs, num_samples, samples))[:, : samples // HOP]
        return features.scaled(power, num_samples)


class WaveformForm(nn.Module):
    """Export form of :class:`~speechbrain_ee.lobes.pretrained.waveform.Waveform`."""

    def __init__(self, features: Waveform):
        super().__init__()
        self.features = features

    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        features = self.features
        wavs, lengths = zero_padding(wavs, num_samples), features.num_frames(num_samples)
        if features.downsampler is not None:
            wavs = zero_padding(self._downsampled(wavs), lengths)
        return features.normalized(wavs, lengths), lengths

    def _downsampled(self, wavs: torch.Tensor) -> torch.Tensor:
        """Apply the filter of torchaudio's ``Resample``, whose own code computes shapes that ONNX cannot express."""
        factor, resample = self.features.downsample, self.features.downsampler.downsampler
        padded = nn.functional.pad(wavs[:, None], (resample.width, resample.width + factor))
        return nn.functional.conv1d(padded, resample.kernel, stride=factor)[
            :, 0, : self.features.num_frames(wavs.shape[1])
        ]


FORMS = {LogMel: LogMelForm, WhisperLogMel: WhisperLogMelForm, Waveform: WaveformForm}


def features_form(features: Features) -> nn.Module:
    """Return the export form of features.

    Raises
    ------
    ValueError
        If there is none.
    """
    if form := FORMS.get(type(features)):
        return form(features)
    known = ", ".join(kind.__name__ for kind in FORMS)
    raise ValueError(f"features of class {type(features).__name__} cannot be exported: {known} can")
