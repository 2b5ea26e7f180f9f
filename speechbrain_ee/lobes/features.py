# SPDX-License-Identifier: Apache-2.0
"""Features: their interface, and log-mel features with global normalisation."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from speechbrain.lobes.features import Fbank
from torch import nn

from speechbrain_ee.lobes.encoder import constructor_arguments
from speechbrain_ee.lobes.padding import zero_padding


class Features(nn.Module, ABC):
    """Features of waveforms, the input of an encoder.

    Arguments
    ---------
    sample_rate : int
        Sample rate of the waveforms in Hz.
    frame_size : int
        Size of a frame; must equal the encoder's.
    """

    def __init__(self, *, sample_rate: int, frame_size: int):
        super().__init__()
        self.sample_rate = sample_rate
        self.frame_size = frame_size

    min_seconds = 0.0  # features of shorter utterances are padded to this length

    @abstractmethod
    def num_frames(self, num_samples):
        """Return the frames of ``num_samples`` samples (int or integer tensor)."""

    @abstractmethod
    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features.

        Arguments
        ---------
        wavs : torch.Tensor
            Waveforms, (batch, samples); the padding may have any values.
        num_samples : torch.Tensor
            Valid samples, integers, (batch,).

        Returns
        -------
        tuple[torch.Tensor, torch.Tensor]
            Features (batch, frames, frame_size) and their integer lengths (batch,).
        """

    def fit(self, waveforms: Iterable[torch.Tensor]) -> int:
        """Measure statistics of waveforms (samples,) once before training; return the number of frames.

        By default there are no statistics, and the waveforms are not read.
        """
        del waveforms
        return 0


def check_downsample(factor: int) -> int:
    """Check the argument ``downsample`` of features."""
    if not isinstance(factor, int) or isinstance(factor, bool) or factor < 1:
        raise ValueError(f"downsample={factor!r}: give an integer >= 1; 1 means no downsampling")
    return factor


class LogMel(Features):
    """SpeechBrain's log-mel filterbank, normalised by mean and standard deviation of the training speech.

    The statistics are buffers, so they are saved in checkpoints and move with the module. :meth:`fit` measures them
    once before training; SpeechBrain's ``InputNormalization`` keeps them outside the state dict and updates them during
    the first epochs. (The paper's code uses neither the logarithm nor normalisation.)

    Arguments
    ---------
    sample_rate : int
        Sample rate of the waveforms in Hz.
    n_mels : int
        Number of mel bands.
    n_fft : int
        Size of the Fourier transform in samples.
    win_length_ms : float
        Length of the window in milliseconds.
    hop_length_ms : float
        Distance of the frames in milliseconds.
    f_max : int | None
        Upper edge of the filterbank in Hz; None means half the sample rate.

    Example
    -------
    >>> features = LogMel(n_mels=40)
    >>> feats, num_frames = features(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> feats.shape, num_frames.tolist()
    (torch.Size([2, 101, 40]), [101, 51])
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        n_mels: int = 80,
        n_fft: int = 400,
        win_length_ms: float = 25,
        hop_length_ms: float = 10,
        f_max: int | None = None,
    ):
        super().__init__(sample_rate=sample_rate, frame_size=n_mels)
        self.config = constructor_arguments(locals())
        self.fbank = Fbank(
            sample_rate=sample_rate,
            n_mels=n_mels,
            n_fft=n_fft,
            win_length=win_length_ms,
            hop_length=hop_length_ms,
            f_max=f_max,
        )
        stft = self.fbank.compute_STFT
        if stft.win_length > n_fft:
            raise ValueError(
                f"win_length_ms={win_length_ms} is {stft.win_length} samples at {sample_rate} Hz, more than "
                f"n_fft={n_fft}: raise n_fft"
            )
        self.n_fft = n_fft
        self.hop_samples = stft.hop_length  # SpeechBrain's own rounding
        if self.hop_samples < 1:
            raise ValueError(f"hop_length_ms={hop_length_ms} is less than a sample at {sample_rate} Hz: raise it")
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))

    def num_frames(self, num_samples):
        """See :meth:`Features.num_frames`: one per hop, the first at time zero."""
        return (num_samples - self.n_fft % 2) // self.hop_samples + 1

    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        feats = self.fbank(zero_padding(wavs, num_samples))
        return (feats - self.mean) / self.std, self.num_frames(num_samples)

    @torch.no_grad()
    def fit(self, waveforms: Iterable[torch.Tensor]) -> int:
        """Measure mean and standard deviation of every band over waveforms (samples,); return the number of frames.

        Raises
        ------
        ValueError
            If there is no waveform.
        """
        count, total, square = 0, 0.0, 0.0
        for waveform in waveforms:
            # on the CPU, since some devices (Apple's) have no double precision
            feats = self.fbank(waveform.to(self.mean.device).unsqueeze(0))[0].cpu().double()
            count += feats.shape[0]
            total = total + feats.sum(0)
            square = square + feats.square().sum(0)
        if count == 0:
            raise ValueError("cannot measure feature statistics without waveforms: give at least one")
        mean = total / count
        self.mean.copy_(mean.float())
        self.std.copy_((square / count - mean.square()).clamp(min=1e-6).sqrt().float())
        return count
