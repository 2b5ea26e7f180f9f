# SPDX-License-Identifier: Apache-2.0
"""Front-ends of encoders in a form that ONNX can express: (feats, num_frames) -> input of layer 1 and its lengths."""

import torch
from torch import nn

from speechbrain_ee.lobes.conformer import TransformerExitEncoder
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.frontend import ConvSubsampling, mirror_ends
from speechbrain_ee.lobes.padding import padding_mask, zero_padding
from speechbrain_ee.lobes.pretrained.wav2vec2 import Wav2Vec2ExitEncoder
from speechbrain_ee.lobes.pretrained.whisper import WhisperExitEncoder


class SubsamplingForm(nn.Module):
    """Export form of :class:`~speechbrain_ee.lobes.frontend.ConvSubsampling`.

    SpeechBrain's convolutions choose their axes while they run, which ONNX cannot express. Here the axes are fixed:
    channels, time, frequency. Padding by reflection is done before the convolution.

    Example
    -------
    >>> frontend = ConvSubsampling(n_mels=80).eval()
    >>> feats, lengths = torch.randn(2, 101, 80), torch.tensor([101, 50])
    >>> torch.testing.assert_close(SubsamplingForm(frontend)(feats, lengths), frontend(feats, lengths))
    """

    def __init__(self, frontend: ConvSubsampling):
        super().__init__()
        self.frontend = frontend

    def forward(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ConvSubsampling.forward`."""
        x, lengths = zero_padding(feats, num_frames).unsqueeze(3), num_frames  # (batch, frames, bands, channels)
        for block, stage in zip(self.frontend.blocks.children(), self.frontend.conv_stages, strict=True):
            conv, padding = block.convs.conv_0.conv, stage.padding
            if self.frontend.padding_mode == "reflect":
                x, padding = _reflected(x, lengths), 0
            lengths = stage.frames(lengths)
            weight = conv.weight.transpose(2, 3)  # stored as frequency, time
            x = nn.functional.conv2d(x.permute(0, 3, 1, 2), weight, conv.bias, stride=stage.stride, padding=padding)
            x = block.convs.act_0(block.convs.norm_0(x.permute(0, 2, 3, 1)))
            x = zero_padding(x, lengths)
        return x.flatten(2), lengths


def _reflected(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Pad x (batch, time, bands, channels) by reflection: one frame at each end, one band on each side."""
    x = mirror_ends(x, lengths)
    x = torch.cat([x[:, 1:2], x], 1)  # one frame in front, one behind: as many frames after the convolution as without
    return torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], 2)


class TransformerFrontForm(nn.Module):
    """Export form of the front-end of :class:`TransformerExitEncoder`: subsampling and projection."""

    def __init__(self, encoder: TransformerExitEncoder):
        super().__init__()
        self.encoder, self.subsampling = encoder, SubsamplingForm(encoder.frontend)

    def forward(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ExitEncoder.front_end`."""
        x, lengths = self.subsampling(feats, num_frames)
        return self.encoder.project(x), lengths


class WhisperFrontForm(nn.Module):
    """Export form of the front-end of :class:`WhisperExitEncoder`.

    Example
    -------
    >>> tiny = {"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 20}
    >>> encoder = WhisperExitEncoder(num_layers=1, exit_layers=[1], backbone=tiny).eval()
    >>> feats, lengths = torch.randn(2, 101, 20), torch.tensor([101, 50])
    >>> found, expected = WhisperFrontForm(encoder)(feats, lengths), encoder.front_end(feats, lengths)
    >>> torch.testing.assert_close(found, expected)
    """

    def __init__(self, encoder: WhisperExitEncoder):
        super().__init__()
        self.encoder, self.backbone = encoder, encoder.backbone

    def forward(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ExitEncoder.front_end`; a longer input than the table of positions is an error of the graph."""
        backbone = self.backbone
        x = zero_padding(feats, num_frames).transpose(1, 2)
        x = nn.functional.gelu(convolve(x, backbone.conv1))
        x = x.masked_fill(padding_mask(num_frames, x.shape[2])[:, None], 0.0)
        x = nn.functional.gelu(convolve(x, backbone.conv2)).transpose(1, 2)
        positions = torch.arange(x.shape[1], device=x.device)
        return x + backbone.embed_positions.weight[positions], self.encoder.num_output_frames(num_frames)


class WaveformFrontForm(nn.Module):
    """Export form of the front-end of :class:`Wav2Vec2ExitEncoder` and its subclasses.

    A group norm computes its statistics over the valid frames of each utterance, so the whole batch runs at once. The
    weight norm of the positional convolution is already applied.

    Example
    -------
    >>> tiny = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7}
    >>> tiny |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    >>> encoder = Wav2Vec2ExitEncoder(num_layers=1, exit_layers=[1], backbone=tiny).eval()
    >>> wavs, lengths = torch.randn(2, 8000, 1), torch.tensor([8000, 5000])
    >>> found, expected = WaveformFrontForm(encoder)(wavs, lengths), encoder.front_end(wavs, lengths)
    >>> torch.testing.assert_close(found, expected)
    """

    def __init__(self, encoder: Wav2Vec2ExitEncoder):
        super().__init__()
        self.encoder, self.positional = encoder, encoder.backbone.encoder.pos_conv_embed
        self.positional_weight = nn.Parameter(self.positional.conv.weight.detach().clone())

    def forward(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ExitEncoder.front_end`."""
        encoder, shortest = self.encoder, self.encoder.min_frames
        lengths = num_frames.clamp(min=shortest)
        room = torch.sym_max(feats.shape[1], shortest) - feats.shape[1]
        x = nn.functional.pad(zero_padding(feats[:, :, 0], num_frames), (0, room))[:, None]
        for layer, stage in zip(encoder.feature_extractor.conv_layers, encoder.conv_stages, strict=True):
            lengths = stage.frames(lengths)
            x = layer.conv(x) if x.shape[1] == 1 else convolve(x, layer.conv)
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                x = norm_over_time(x, lengths, norm)
            elif norm is not None:
                x = norm(x.transpose(1, 2)).transpose(1, 2)
            x = layer.activation(x)
        x = zero_padding(encoder._project(x.transpose(1, 2)), lengths)
        x = x + self._positional(x)
        return x if encoder.shape.do_stable_layer_norm else encoder.backbone.encoder.layer_norm(x), lengths

    def _positional(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.shape[1]
        x = convolve(x.transpose(1, 2), self.positional.conv, self.positional_weight)[:, :, :frames]
        return self.positional.activation(x).transpose(1, 2)


def convolve(x: torch.Tensor, conv: nn.Conv1d, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Apply a convolution over time in two dimensions, which onnxruntime computes faster if there are many channels.

    Arguments
    ---------
    x : torch.Tensor
        (batch, channels, frames).
    conv : nn.Conv1d
        The convolution.
    weight : torch.Tensor | None
        Replaces the weight of ``conv``.

    Example
    -------
    >>> conv, x = nn.Conv1d(4, 8, 3, stride=2, padding=1, groups=2), torch.randn(2, 4, 9)
    >>> torch.testing.assert_close(convolve(x, conv), conv(x))
    """
    return nn.functional.conv2d(
        x.unsqueeze(2),
        (conv.weight if weight is None else weight).unsqueeze(2),
        conv.bias,
        stride=(1, *conv.stride),
        padding=(0, *conv.padding),
        groups=conv.groups,
    ).squeeze(2)


def norm_over_time(x: torch.Tensor, lengths: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
    """Apply a group norm of one channel per group to the valid frames of x (batch, channels, frames).

    Example
    -------
    >>> norm, x = nn.GroupNorm(4, 4), torch.randn(2, 4, 9)
    >>> found = norm_over_time(x, torch.tensor([9, 5]), norm)
    >>> torch.testing.assert_close(found[1:, :, :5], norm(x[1:, :, :5]))
    """
    # Products with a mask read the frames once, while setting the padding to zero would write them too.
    valid = (~padding_mask(lengths, x.shape[2])).to(x.dtype)[:, :, None] / lengths[:, None, None]
    x = x - x @ valid
    variance = (x * x) @ valid
    return x * (norm.weight[:, None] / (variance + norm.eps).sqrt()) + norm.bias[:, None]


FRONT_ENDS = {
    TransformerExitEncoder: TransformerFrontForm,
    WhisperExitEncoder: WhisperFrontForm,
    Wav2Vec2ExitEncoder: WaveformFrontForm,
}


def front_end_form(encoder: ExitEncoder) -> nn.Module:
    """Return the export form of an encoder's front-end.

    Raises
    ------
    ValueError
        If there is none.
    """
    for kind, form in FRONT_ENDS.items():
        if isinstance(encoder, kind):
            return form(encoder)
    known = ", ".join(kind.__name__ for kind in FRONT_ENDS)
    raise ValueError(f"encoders of class {type(encoder).__name__} cannot be exported: {known} and subclasses can")
