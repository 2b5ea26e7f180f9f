# SPDX-License-Identifier: Apache-2.0
"""wav2vec 2.0, HuBERT and WavLM encoders with exits, which take waveforms."""

import warnings

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ee_runtime.cost import ConvStage
from speechbrain_ee.lobes.encoder import EncoderState
from speechbrain_ee.lobes.padding import zero_padding
from speechbrain_ee.lobes.pretrained.encoder import PretrainedExitEncoder


class Wav2Vec2ExitEncoder(PretrainedExitEncoder):
    """wav2vec 2.0 (arXiv 2006.11477) with exits, base and large models.

    A front-end with group norm computes statistics over the whole utterance, so it runs on one utterance at a time. The
    rest is batched: padding is set to zero before the positional convolution, and masked in every layer. Models with
    ``do_stable_layer_norm`` have a final norm, which is applied at every exit.

    Arguments
    ---------
    **arguments
        See :class:`~speechbrain_ee.lobes.pretrained.encoder.PretrainedExitEncoder`.

    Example
    -------
    >>> tiny = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7}
    >>> tiny |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    >>> encoder = Wav2Vec2ExitEncoder(num_layers=2, exit_layers=[1, 2], backbone=tiny)
    >>> states, lengths = encoder(torch.randn(2, 8000, 1), torch.tensor([8000, 5000]))
    >>> [state.shape for state in states], lengths.tolist()
    ([torch.Size([2, 24, 16]), torch.Size([2, 24, 16])], [24, 15])
    """

    model_type = "wav2vec2"
    depth_setting = "num_hidden_layers"
    settings = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
        *("layer_norm_eps", "do_stable_layer_norm", "feat_extract_norm", "feat_extract_activation"),
        *("conv_dim", "conv_kernel", "conv_stride", "conv_bias"),
        *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
        *("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"),
    )
    not_supported = ("add_adapter", "adapter_attn_dim")
    # Layers are never skipped, and the library's masking of states (SpecAugment) is not used.
    fixed_settings = {"layerdrop": 0.0, "apply_spec_augment": False, "mask_time_prob": 0.0, "mask_feature_prob": 0.0}

    @staticmethod
    def stock_lobe() -> type:
        """See :meth:`PretrainedExitEncoder.stock_lobe`."""
        from speechbrain.integrations.huggingface.wav2vec2 import Wav2Vec2

        return Wav2Vec2

    @staticmethod
    def frame_size_of(shape) -> int:
        """See :meth:`PretrainedExitEncoder.frame_size_of`: one sample."""
        return 1

    @property
    def layers(self) -> nn.ModuleList:
        """See :attr:`ExitEncoder.layers`."""
        return self.backbone.encoder.layers

    @property
    def feature_extractor(self) -> nn.Module:
        """See :attr:`ExitEncoder.feature_extractor`: most fine-tuning recipes freeze it."""
        return self.backbone.feature_extractor

    @property
    def final_norm(self) -> nn.Module | None:
        """See :attr:`ExitEncoder.final_norm`: models with ``do_stable_layer_norm`` have one."""
        return self.backbone.encoder.layer_norm if self.shape.do_stable_layer_norm else None

    def front_end(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ExitEncoder.front_end`: waveforms (batch, samples, 1)."""
        lengths = self.num_output_frames(num_frames)
        hidden = self._convolve(zero_padding(feats[:, :, 0], num_frames), num_frames)
        x = zero_padding(self._project(hidden), lengths)
        encoder = self.backbone.encoder
        x = x + encoder.pos_conv_embed(x)
        if not self.shape.do_stable_layer_norm:
            x = encoder.layer_norm(x)
        return encoder.dropout(x), lengths

    def _convolve(self, wavs: torch.Tensor, num_samples: torch.Tensor) -> torch.Tensor:
        """Waveforms (batch, samples), zero in the padding -> (batch, frames, channels)."""
        shortest = self.min_frames
        wavs = nn.functional.pad(wavs, (0, max(0, shortest - wavs.shape[1])))
        if self.shape.feat_extract_norm == "layer":
            return self.feature_extractor(wavs).transpose(1, 2)
        rows = [
            self.feature_extractor(wav[None, : max(samples, shortest)])[0].T
            for wav, samples in zip(wavs, num_samples.tolist(), strict=True)
        ]
        return pad_sequence(rows, batch_first=True)

    def _project(self, hidden: torch.Tensor) -> torch.Tensor:
        projected, _ = self.backbone.feature_projection(hidden)
        return projected

    @property
    def min_frames(self) -> int:
        """See :attr:`ExitEncoder.min_frames`: the samples of one frame."""
        samples = 1
        for stage in reversed(self.conv_stages):
            samples = (samples - 1) * stage.stride + stage.kernel
        return samples

    @property
    def conv_stages(self) -> list[ConvStage]:
        """See :attr:`ExitEncoder.conv_stages`."""
        kernels, strides, channels = self.shape.conv_kernel, self.shape.conv_stride, self.shape.conv_dim
        shapes = zip(kernels, strides, [1, *channels], channels, strict=False)
        return [ConvStage(kernel, stride, 0, kernel * before * after) for kernel, stride, before, after in shapes]

    @property
    def front_cost(self) -> tuple[int, int]:
        """See :attr:`ExitEncoder.front_cost`: projection and positional convolution."""
        kernel, groups = self.shape.num_conv_pos_embeddings, self.shape.num_conv_pos_embedding_groups
        positions = kernel * self.d_model**2 // groups
        # With an even kernel, the convolution computes one frame more, which is dropped.
        return (kernel + 1) % 2 * positions, self.shape.conv_dim[-1] * self.d_model + positions

    def run_layer(self, layer: int, state: EncoderState) -> torch.Tensor:
        """See :meth:`ExitEncoder.run_layer`."""
        return self.call_layer(layer, state.x, attention_mask=state.mask)

    @property
    def layer_cost(self) -> tuple[int, int, int]:
        """See :attr:`ExitEncoder.layer_cost`."""
        return transformer_layer_cost(self.d_model, self.shape.intermediate_size)


class HubertExitEncoder(Wav2Vec2ExitEncoder):
    """HuBERT (arXiv 2106.07447) with exits; see :class:`Wav2Vec2ExitEncoder`.

    Example
    -------
    >>> tiny = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7}
    >>> tiny |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    >>> encoder = HubertExitEncoder(num_layers=2, exit_layers=[1, 2], backbone=tiny)
    >>> encoder.num_output_frames(16000)
    49
    """

    model_type = "hubert"
    settings = (*Wav2Vec2ExitEncoder.settings, "feat_proj_layer_norm")
    not_supported = ("conv_pos_batch_norm",)  # an utterance would depend on the batch

    @staticmethod
    def stock_lobe() -> type:
        """See :meth:`PretrainedExitEncoder.stock_lobe`."""
        from speechbrain.integrations.huggingface.hubert import HuBERT

        return HuBERT

    def _project(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.backbone.feature_projection(hidden)


class WavLMExitEncoder(Wav2Vec2ExitEncoder):
    """WavLM (arXiv 2110.13900) with exits; see :class:`Wav2Vec2ExitEncoder`.

    All layers share the relative position bias of the first layer.

    Example
    -------
    >>> tiny = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7}
    >>> tiny |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    >>> encoder = WavLMExitEncoder(num_layers=2, exit_layers=[1, 2], backbone=tiny)
    >>> encoder.start(torch.randn(1, 8000, 1), torch.tensor([8000])).pos_embs.shape
    torch.Size([2, 24, 24])
    """

    model_type = "wavlm"
    settings = (*Wav2Vec2ExitEncoder.settings, "num_buckets", "max_bucket_distance")
    attention = "eager"  # the only one that the library accepts; torch's attention in it takes the mask

    @staticmethod
    def stock_lobe() -> type:
        """See :meth:`PretrainedExitEncoder.stock_lobe`."""
        from speechbrain.integrations.huggingface.wavlm import WavLM

        return WavLM

    def layer_context(self, x: torch.Tensor, padding: torch.Tensor | None) -> dict:
        """See :meth:`ExitEncoder.layer_context`."""
        mask = super().layer_context(x, padding)["mask"]
        batch, frames, _ = x.shape
        bias = self.layers[0].attention.compute_bias(frames, frames)
        return {"mask": None if mask is None else mask[:, 0, 0], "pos_embs": bias.repeat(batch, 1, 1)}

    def run_layer(self, layer: int, state: EncoderState) -> torch.Tensor:
        """See :meth:`ExitEncoder.run_layer`."""
        with warnings.catch_warnings():
            # The library's layer passes a boolean mask with a float bias, about which torch warns.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask and attn_mask", UserWarning)
            return self.call_layer(layer, state.x, attention_mask=state.mask, position_bias=state.pos_embs)

    @property
    def layer_cost(self) -> tuple[int, int, int]:
        """See :attr:`ExitEncoder.layer_cost`: including the gates of the position bias."""
        constant, per_frame, per_square = super().layer_cost
        return constant, per_frame + self.d_model * 8, per_square


def transformer_layer_cost(width: int, d_ffn: int) -> tuple[int, int, int]:
    """Return the MACs of a Transformer layer: constant, per frame, and per squared number of frames.

    Example
    -------
    >>> transformer_layer_cost(4, 8)
    (0, 128, 8)
    """
    return 0, 4 * width**2 + 2 * width * d_ffn, 2 * width
