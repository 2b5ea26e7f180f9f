# SPDX-License-Identifier: Apache-2.0
"""The waveform itself as features, for encoders that begin with convolutions over it."""

import torch
from speechbrain.lobes.downsampling import SignalDownsampler
from speechbrain.utils.autocast import fwd_default_precision

from speechbrain_ee.lobes.features import Features, check_downsample
from speechbrain_ee.lobes.padding import zero_padding
from speechbrain_ee.lobes.pretrained.sources import check_extractor

EPSILON = 1e-5  # of torch's layer_norm, with which SpeechBrain's lobes normalise


class Waveform(Features):
    """The waveform, one sample a frame, with zero mean and unit variance if the encoder was pretrained so.

    SpeechBrain's lobe normalises a padded batch over its padding too; here it is each utterance by itself.

    Arguments
    ---------
    sample_rate : int
        Of the waveforms, in Hz.
    normalize : bool | None
        Over each utterance; None means as ``source`` says.
    source : str | None
        Pretrained model whose ``preprocessor_config.json`` is to fit; None checks nothing.
    downsample : int
        Sequences as many times shorter: the waveform is decimated by SpeechBrain's ``SignalDownsampler`` before the
        encoder (arXiv 2303.06740), the cheap rival of fewer layers. 1 changes nothing.

    Raises
    ------
    ValueError
        If the source takes other features or another rate, or nothing says whether to normalise.

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
            wanted = {"sampling_rate": (sample_rate, "give that sample_rate"), "feature_size": (1, "take its yaml")}
            said = check_extractor(source, "Wav2Vec2FeatureExtractor", wanted)
            normalize = said.get("do_normalize", True) if normalize is None else normalize
        if normalize is None:
            raise ValueError("nothing says whether waveforms are to be normalised: give normalize True or False")
        if not isinstance(normalize, bool):
            raise ValueError(f"normalize={normalize!r}: give True or False, or null for what the source says")
        self.normalize = normalize
        self.config = {"sample_rate": sample_rate, "normalize": normalize, "downsample": downsample}

    def num_frames(self, num_samples):
        """See :meth:`Features.num_frames`: as many as samples."""
        return -(-num_samples // self.downsample)

    @fwd_default_precision
    def forward(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Features.forward`."""
        wavs = zero_padding(wavs, num_samples)
        lengths = self.num_frames(num_samples)
        if self.downsampler is not None:
            wavs = zero_padding(self.downsampler(wavs), lengths)
        if self.normalize:
            count = lengths.unsqueeze(1)
            centred = zero_padding(wavs - wavs.sum(1, keepdim=True) / count, lengths)
            variance = centred.square().sum(1, keepdim=True) / count
            wavs = centred / (variance + EPSILON).sqrt()
        return wavs.unsqueeze(2), lengths
