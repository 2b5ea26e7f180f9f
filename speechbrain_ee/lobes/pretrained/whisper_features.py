# SPDX-License-Identifier: Apache-2.0
"""Whisper's log-mel features, for utterances of any length."""

from numbers import Real

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torchaudio.functional import melscale_fbanks

from speechbrain_ee.lobes.features import Features, check_downsample
from speechbrain_ee.lobes.padding import padding_mask, zero_padding
from speechbrain_ee.lobes.pretrained.sources import check_extractor

SAMPLE_RATE, N_FFT, HOP = 16000, 400, 160  # of all Whisper models
FLOOR = 1e-10  # minimum power
RANGE = 8.0  # dynamic range below the loudest value, in powers of ten; lower values are clamped


class WhisperLogMel(Features):
    """Log-mel features, equal to those of Whisper's extractor for one utterance without padding.

    The features are scaled by the loudest value *of the utterance*. SpeechBrain's lobe uses the loudest value of the
    batch, so that an utterance depends on the others. Utterances are padded to 30 s only if ``pad_s`` is 30.

    Arguments
    ---------
    n_mels : int
        Number of mel bands: 80, or 128 for large-v3.
    source : str | None
        Pretrained model whose ``preprocessor_config.json`` must match; None for no check.
    downsample : int
        Number of frames that are averaged to one, a cheap alternative to fewer layers. 1 means no downsampling.
    pad_s : float | None
        Shorter utterances are padded with silence to this length, which also counts in the cost. With 30 the input is
        as in pretraining. None means no padding.

    Raises
    ------
    ValueError
        If the source takes other features.

    Example
    -------
    >>> features = WhisperLogMel()
    >>> feats, num_frames = features(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> feats.shape, num_frames.tolist()
    (torch.Size([2, 100, 80]), [100, 50])
    """

    def __init__(self, *, n_mels: int = 80, source: str | None = None, downsample: int = 1, pad_s: float | None = None):
        super().__init__(sample_rate=SAMPLE_RATE, frame_size=n_mels)
        self.config = {"n_mels": n_mels, "downsample": downsample, "pad_s": pad_s}
        self.downsample = check_downsample(downsample)
        if pad_s is not None and not (isinstance(pad_s, Real) and 0 < pad_s <= 30):
            raise ValueError(f"pad_s={pad_s!r}: give seconds above 0 and at most 30, or None")
        self.min_seconds = pad_s or 0.0
        self.min_samples = round(self.min_seconds * SAMPLE_RATE)
        if source is not None:
            fixed = {"sampling_rate": SAMPLE_RATE, "n_fft": N_FFT, "hop_length": HOP}
            wanted = {name: (value, "no known Whisper model has other values") for name, value in fixed.items()}
            wanted["feature_size"] = (n_mels, "set this n_mels")
            check_extractor(source, "WhisperFeatureExtractor", wanted)
        filters = melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, n_mels, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def num_frames(self, num_samples):
        """See :meth:`Features.num_frames`: one per 10 ms, at least one."""
        return (self._num_frames_before(num_samples) + self.downsample - 1) // self.downsample

    def _num_frames_before(self, num_samples):
        fewest = max(1, self.min_samples // HOP)
        frames = num_samples // HOP
        return frames.clamp(min=fewest) if isinstance(frames, torch.Tensor) else max(fewest, frames)

    @fwd_default_precision
    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        samples = max(wavs.shape[1], self.shortest)
        spectrum = torch.stft(
            self.reflected(wavs, num_samples, samples),
            N_FFT,
            HOP,
            window=self.window,
            center=False,
            return_complex=True,
        )
        frames = int(self._num_frames_before(num_samples).max())
        return self.scaled(spectrum[..., :frames].abs().square().transpose(1, 2), num_samples)

    @property
    def shortest(self) -> int:
        """Shorter utterances are padded to this number of samples; half a window or less cannot be reflected."""
        return max(self.min_samples, N_FFT // 2 + 1)

    def reflected(self, wavs: torch.Tensor, num_samples: torch.Tensor, samples: int) -> torch.Tensor:
        """Pad each utterance by half a window on both sides by reflection: (batch, samples + window).

        Arguments
        ---------
        wavs : torch.Tensor
            Waveforms, (batch, samples before).
        num_samples : torch.Tensor
            Valid samples, (batch,).
        samples : int
            The larger of samples before and :attr:`shortest`.
        """
        half = N_FFT // 2
        wavs = torch.nn.functional.pad(zero_padding(wavs, num_samples), (0, samples - wavs.shape[1] + half))
        offsets = torch.arange(half, device=wavs.device)
        last = num_samples.clamp(min=self.shortest).unsqueeze(1) - 1
        wavs = wavs.scatter(1, last + 1 + offsets, wavs.gather(1, last - 1 - offsets))
        return torch.nn.functional.pad(wavs.unsqueeze(1), (half, 0), mode="reflect")[:, 0]

    def scaled(self, power: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Power spectrum (batch, frames, bins) -> features (batch, frames, n_mels) and their lengths (batch,)."""
        lengths = self._num_frames_before(num_samples)
        feats = (power @ self.filters).clamp(min=FLOOR).log10()
        padding = padding_mask(lengths, feats.shape[1])[:, :, None]
        loudest = feats.masked_fill(padding, -torch.inf).amax((1, 2), keepdim=True)
        feats = (torch.maximum(feats, loudest - RANGE) + 4.0) / 4.0
        return (feats, lengths) if self.downsample == 1 else average_frames(feats, lengths, self.downsample)


def average_frames(feats: torch.Tensor, lengths: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Average every ``factor`` frames (batch, frames, size); the last average may be over fewer frames.

    Example
    -------
    >>> feats = torch.tensor([[[1.0], [3.0], [5.0]]])
    >>> means, lengths = average_frames(feats, torch.tensor([3]), 2)
    >>> means[0, :, 0].tolist(), lengths.tolist()
    ([2.0, 5.0], [2])
    """
    batch, frames, size = feats.shape
    room = (frames + factor - 1) // factor * factor - frames
    grouped = torch.nn.functional.pad(zero_padding(feats, lengths), (0, 0, 0, room)).view(batch, -1, factor, size)
    valid = ~padding_mask(lengths, frames + room).view(batch, -1, factor, 1)
    return grouped.sum(2) / valid.sum(2).clamp(min=1), (lengths + factor - 1) // factor
