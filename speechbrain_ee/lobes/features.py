# SPDX-License-Identifier: Apache-2.0
"""What an encoder is fed with: the interface, and log-mel features with a global normalisation that travels."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from speechbrain.lobes.features import Fbank
from torch import nn

from speechbrain_ee.lobes.encoder import constructor_arguments
from speechbrain_ee.lobes.padding import zero_padding


class Features(nn.Module, ABC):
    """From waveforms to what an encoder takes, in frames.

    Arguments
    ---------
    sample_rate : int
        Of the waveforms, in Hz.
    frame_size : int
        Numbers in a frame; the encoder must take frames of this size.
    """

    def __init__(self, *, sample_rate: int, frame_size: int):
        super().__init__()
        self.sample_rate = sample_rate
        self.frame_size = frame_size

    min_seconds = 0.0  # what is shorter is padded to this, and its frames are of so many seconds

    @abstractmethod
    def num_frames(self, num_samples):
        """Frames of ``num_samples`` samples (int or integer tensor)."""

    @abstractmethod
    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features.

        Arguments
        ---------
        wavs : torch.Tensor
            Waveforms, (batch, samples); what stands in the padding does not matter.
        num_samples : torch.Tensor
            Valid samples of each, integers, (batch,).

        Returns
        -------
        tuple[torch.Tensor, torch.Tensor]
            Features (batch, frames, frame_size) and their integer lengths (batch,).
        """

    def fit(self, waveforms: Iterable[torch.Tensor]) -> int:
        """Measure what is measured once before training over waveforms (samples,); returns the number of frames seen.

        Here nothing is, and no waveform is looked at.
        """
        del waveforms
        return 0


def check_downsample(factor: int) -> int:
    """Refuse what is no whole factor; see the features that take it."""
    if not isinstance(factor, int) or isinstance(factor, bool) or factor < 1:
        raise ValueError(f"downsample={factor!r}: give a whole number, 1 for none")
    return factor


class LogMel(Features):
    """SpeechBrain's log-mel filterbank, normalised by the mean and deviation of the training speech.

    The two statistics are buffers, so checkpoints and bundles carry them and they move with the module. They are
    measured once before training by :meth:`fit`; SpeechBrain's ``InputNormalization`` keeps them outside the state
    dict and lets them drift during the first epochs. (The paper's code has neither the logarithm nor a normalisation.)

    Arguments
    ---------
    sample_rate : int
        Of the waveforms, in Hz.
    n_mels : int
        Number of mel bands.
    n_fft : int
        Points of the Fourier transform.
    win_length_ms : float
        Window in milliseconds.
    hop_length_ms : float
        Step in milliseconds.
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
            raise ValueError(f"hop_length_ms={hop_length_ms} is no whole sample at {sample_rate} Hz: raise it")
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))

    def num_frames(self, num_samples):
        """See :meth:`Features.num_frames`: one every hop, the first at time zero."""
        return (num_samples - self.n_fft % 2) // self.hop_samples + 1

    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        feats = self.fbank(zero_padding(wavs, num_samples))
        return (feats - self.mean) / self.std, self.num_frames(num_samples)

    @torch.no_grad()
    def fit(self, waveforms: Iterable[torch.Tensor]) -> int:
        """Measure mean and deviation of every band over waveforms (samples,); returns the number of frames seen.

        Raises
        ------
        ValueError
            If there is no waveform.
        """
        count, total, square = 0, 0.0, 0.0
        for waveform in waveforms:
            # double precision on the CPU: some devices (Apple's) have none
            feats = self.fbank(waveform.to(self.mean.device).unsqueeze(0))[0].cpu().double()
            count += feats.shape[0]
            total = total + feats.sum(0)
            square = square + feats.square().sum(0)
        if count == 0:
            raise ValueError("cannot measure feature statistics: got no waveform, give at least one")
        mean = total / count
        self.mean.copy_(mean.float())
        self.std.copy_((square / count - mean.square()).clamp(min=1e-6).sqrt().float())
        return count
