# SPDX-License-Identifier: Apache-2.0
"""Waveforms as features, for encoders that begin with convolutions over samples."""

import torch
from speechbrain.lobes.downsampling import SignalDownsampler
from speechbrain.utils.autocast import fwd_default_precision

from speechbrain_ee.lobes.features import Features, check_downsample
from speechbrain_ee.lobes.padding import zero_padding
from speechbrain_ee.lobes.pretrained.sources import check_extractor

EPSILON = 1e-5  # of torch's layer_norm, which SpeechBrain's lobes use


class Waveform(Features):
    """The waveform, one sample per frame, with zero mean and unit variance if the encoder was pretrained so.

    Each utterance is normalised by itself. SpeechBrain's lobe includes the padding of the batch in the normalisation.

    Arguments
    ---------
    sample_rate : int
        Sample rate of the waveforms in Hz.
    normalize : bool | None
        Whether to normalise each utterance; None means as stated by ``source``.
    source : str | None
        Pretrained model whose ``preprocessor_config.json`` must match; None for no check.
    downsample : int
        Factor by which SpeechBrain's ``SignalDownsampler`` decimates the waveform before the encoder
        (arXiv 2303.06740), a cheap alternative to fewer layers. 1 means no downsampling.

    Raises
    ------
    ValueError
        If the source takes other features or another sample rate, or ``normalize`` is not given.

    Example
    -------
    >>> features = Waveform(normalize=True)
    >>> feats, num_frames = features(torch.randn(2, 16000) * 5, torch.tensor([16000, 8000]))
    >>> feats.shape, round(float(feats[1, :8000].square().mean()), 3), float(feats[1, 8000:].abs().sum())
    (torch.Size([2, 16000, 1]), 1.0, 0.0)
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        normalize: bool | None = None,
        source: str | None = None,
        downsample: int = 1,
    ):
        super().__init__(sample_rate=sample_rate, frame_size=1)
        self.downsample = check_downsample(downsample)
        if downsample > 1 and sample_rate % downsample:
            raise ValueError(f"downsample={downsample} does not divide the sample rate of {sample_rate} Hz")
        self.downsampler = SignalDownsampler(downsample, sample_rate) if downsample > 1 else None
        if source is not None:
            wanted = {
                "sampling_rate": (sample_rate, "set this sample_rate"),
                "feature_size": (1, "use the yaml of its type"),
            }
            settings = check_extractor(source, "Wav2Vec2FeatureExtractor", wanted)
            normalize = settings.get("do_normalize", True) if normalize is None else normalize
        if normalize is None:
            raise ValueError("normalize is neither given nor stated by a source: give True or False")
        if not isinstance(normalize, bool):
            raise ValueError(f"normalize={normalize!r}: give True or False, or null for the setting of the source")
        self.normalize = normalize
        self.config = {"sample_rate": sample_rate, "normalize": normalize, "downsample": downsample}

    def num_frames(self, num_samples):
        """See :meth:`Features.num_frames`: the number of samples, after downsampling."""
        return (num_samples + self.downsample - 1) // self.downsample

    @fwd_default_precision
    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        wavs = zero_padding(wavs, num_samples)
        lengths = self.num_frames(num_samples)
        if self.downsampler is not None:
            wavs = zero_padding(self.downsampler(wavs), lengths)
        return self.normalized(wavs, lengths), lengths

    def normalized(self, wavs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Normalise waveforms (batch, samples), zero in the padding, as configured -> (batch, samples, 1)."""
        if self.normalize:
            count = lengths.unsqueeze(1)
            centred = zero_padding(wavs - wavs.sum(1, keepdim=True) / count, lengths)
            variance = centred.square().sum(1, keepdim=True) / count
            wavs = centred / (variance + EPSILON).sqrt()
        return wavs.unsqueeze(2)
