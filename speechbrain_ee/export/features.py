# SPDX-License-Identifier: Apache-2.0
"""Features in a form that ONNX can express: the Fourier transform as a matrix product."""

import math

import torch
from torch import nn

from speechbrain_ee.lobes.features import Features, LogMel
from speechbrain_ee.lobes.padding import zero_padding


class FourierPower(nn.Module):
    """Power spectrum of overlapping frames, equal to that of ``torch.stft`` up to rounding.

    Arguments
    ---------
    window : torch.Tensor
        (window samples,).
    n_fft : int
        Size of the Fourier transform; a shorter window is centred in it, as in ``torch.stft``.
    hop : int
        Distance of frames in samples.

    Example
    -------
    >>> power = FourierPower(torch.hann_window(400), 400, 160)
    >>> power(torch.randn(2, 800)).shape
    torch.Size([2, 3, 201])
    """

    def __init__(self, window: torch.Tensor, n_fft: int, hop: int):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        left = (n_fft - len(window)) // 2
        window = nn.functional.pad(window.double(), (left, n_fft - len(window) - left))
        angles = 2 * math.pi / n_fft * torch.outer(torch.arange(n_fft), torch.arange(n_fft // 2 + 1)).double()
        self.register_buffer("cosines", (window[:, None] * angles.cos()).float(), persistent=False)
        self.register_buffer("sines", (window[:, None] * angles.sin()).float(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Signals (batch, samples) -> (batch, 1 + (samples - n_fft) // hop, n_fft // 2 + 1)."""
        frames = x.unfold(1, self.n_fft, self.hop)
        return (frames @ self.cosines).square() + (frames @ self.sines).square()


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


def features_form(features: Features) -> nn.Module:
    """Return the export form of features.

    Raises
    ------
    ValueError
        If there is none.
    """
    if type(features) is not LogMel:
        raise ValueError(f"features of class {type(features).__name__} cannot be exported yet: LogMel can")
    return LogMelForm(features)
