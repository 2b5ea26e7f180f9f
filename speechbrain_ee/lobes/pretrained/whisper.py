# SPDX-License-Identifier: Apache-2.0
"""Whisper's encoder with exits, for utterances of up to 30 s."""

import torch
from torch import nn

from ee_runtime.cost import ConvStage
from speechbrain_ee.lobes.encoder import EncoderState
from speechbrain_ee.lobes.padding import zero_padding
from speechbrain_ee.lobes.pretrained.encoder import PretrainedExitEncoder
from speechbrain_ee.lobes.pretrained.sources import quiet_transformers
from speechbrain_ee.lobes.pretrained.wav2vec2 import transformer_layer_cost


class WhisperExitEncoder(PretrainedExitEncoder):
    """Whisper's encoder (arXiv 2212.04356) with exits.

    The library's ``forward`` requires inputs of exactly 30 s. Here convolutions, positional encoding and layers are
    applied to the utterance alone, with padding masked. At 30 s both are equal. The pretrained encoder has not seen
    shorter inputs, so it must be fine-tuned on them. The encoder's final norm is applied at every exit.

    Arguments
    ---------
    **arguments
        See :class:`~speechbrain_ee.lobes.pretrained.encoder.PretrainedExitEncoder`.

    Example
    -------
    >>> tiny = {"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 20}
    >>> encoder = WhisperExitEncoder(num_layers=2, exit_layers=[1, 2], backbone=tiny)
    >>> states, lengths = encoder(torch.randn(2, 101, 20), torch.tensor([101, 60]))
    >>> [state.shape for state in states], lengths.tolist()
    ([torch.Size([2, 51, 16]), torch.Size([2, 51, 16])], [51, 30])
    """

    model_type = "whisper"
    depth_setting = "encoder_layers"
    settings = (
        *("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "activation_function"),
        *("num_mel_bins", "max_source_positions", "scale_embedding"),
        *("dropout", "activation_dropout", "attention_dropout"),
    )
    fixed_settings = {"encoder_layerdrop": 0.0, "decoder_layers": 0}
    lobe_options = {"encoder_only": True}
    ignored_weights = ("decoder.",)

    @staticmethod
    def stock_lobe() -> type:
        """See :meth:`PretrainedExitEncoder.stock_lobe`."""
        from speechbrain.integrations.huggingface.whisper import Whisper

        return Whisper

    @staticmethod
    def frame_size_of(shape) -> int:
        """See :meth:`PretrainedExitEncoder.frame_size_of`: mel bands."""
        return shape.num_mel_bins

    def random(self) -> nn.Module:
        """See :meth:`PretrainedExitEncoder.random`; the decoder is not built."""
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        with quiet_transformers():
            return WhisperEncoder._from_config(self.shape)

    @staticmethod
    def encoder_of(model: nn.Module) -> nn.Module:
        """See :meth:`PretrainedExitEncoder.encoder_of`; its positional encoding is not trained."""
        model.encoder.embed_positions.requires_grad_(False)
        return model.encoder

    @property
    def max_output_frames(self) -> int | None:
        """See :attr:`ExitEncoder.max_output_frames`: the size of the positional encoding."""
        return self.shape.max_source_positions

    @property
    def layers(self) -> nn.ModuleList:
        """See :attr:`ExitEncoder.layers`."""
        return self.backbone.layers

    @property
    def final_norm(self) -> nn.Module:
        """See :attr:`ExitEncoder.final_norm`."""
        return self.backbone.layer_norm

    def front_end(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ExitEncoder.front_end`.

        Raises
        ------
        ValueError
            If an utterance is longer than the positional encoding.
        """
        lengths = self.num_output_frames(num_frames)
        x = zero_padding(feats, num_frames).transpose(1, 2)
        x = nn.functional.gelu(self.backbone.conv1(x))
        x = zero_padding(x.transpose(1, 2), num_frames).transpose(1, 2)
        x = nn.functional.gelu(self.backbone.conv2(x)).transpose(1, 2)
        if x.shape[1] > self.max_output_frames:
            raise ValueError(
                f"{x.shape[1]} encoder frames are more than the {self.max_output_frames} of whisper: cut the audio"
            )
        x = x + self.backbone.embed_positions.weight[: x.shape[1]]
        return nn.functional.dropout(x, p=self.backbone.dropout, training=self.backbone.training), lengths

    def run_layer(self, layer: int, state: EncoderState) -> torch.Tensor:
        """See :meth:`ExitEncoder.run_layer`."""
        return self.call_layer(layer, state.x, attention_mask=state.mask)

    @property
    def conv_stages(self) -> list[ConvStage]:
        """See :attr:`ExitEncoder.conv_stages`."""
        return [ConvStage(3, 1, 1, 3 * self.frame_size * self.d_model), ConvStage(3, 2, 1, 3 * self.d_model**2)]

    @property
    def front_cost(self) -> tuple[int, int]:
        """See :attr:`ExitEncoder.front_cost`: convolutions only."""
        return 0, 0

    @property
    def layer_cost(self) -> tuple[int, int, int]:
        """See :attr:`ExitEncoder.layer_cost`."""
        return transformer_layer_cost(self.d_model, self.shape.encoder_ffn_dim)
