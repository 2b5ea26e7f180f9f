# SPDX-License-Identifier: Apache-2.0
"""Convolutional subsampling before an encoder, independent of padding."""

from functools import partial

import torch
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.nnet.CNN import Conv2d
from torch import nn

from ee_runtime.cost import ConvStage
from speechbrain_ee.lobes.padding import zero_padding

PADDING_MODES = ("constant", "reflect")


def mirror_ends(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Append to each utterance the frame that lies as far behind its last frame as its next-to-last lies before it.

    A convolution that pads a batch by reflection does so at the end of the batch only; after this function, it does so
    at the end of every utterance. The only frame of an utterance is repeated.

    Arguments
    ---------
    x : torch.Tensor
        (batch, time, ...).
    lengths : torch.Tensor
        Valid positions, integers, (batch,).

    Returns
    -------
    torch.Tensor
        (batch, time + 1, ...); the rest of the padding is unchanged.

    Example
    -------
    >>> mirror_ends(torch.tensor([[1, 2, 3], [4, 5, 0], [6, 0, 0]]), torch.tensor([3, 2, 1]))
    tensor([[1, 2, 3, 2],
            [4, 5, 4, 0],
            [6, 6, 0, 0]])
    """
    mirrored = x[torch.arange(x.shape[0], device=x.device), (lengths - 2).clamp(min=0)]
    x = torch.cat([x, torch.zeros_like(x[:, :1])], 1)
    is_end = torch.arange(x.shape[1], device=x.device) == lengths.unsqueeze(1)
    return torch.where(is_end.view(*is_end.shape, *(1,) * (x.ndim - 2)), mirrored.unsqueeze(1), x)


class ConvSubsampling(nn.Module):
    """SpeechBrain's convolutional front-end, one strided 3 x 3 convolution per block, with integer lengths.

    The stock front-end pads the time axis by reflection at the end of the batch, so that the padding of a batch changes
    the last frames. Here every block pads each utterance at its own end and its output is masked, so the frames of an
    utterance do not depend on the batch.

    Arguments
    ---------
    n_mels : int
        Size of a feature frame.
    channels : list[int] | tuple[int, ...]
        Output channels of each block; each block halves time and frequency.
    dropout : float
        Dropout after every block.
    padding_mode : str
        ``constant`` pads with zeros; ``reflect`` pads by reflection, so that an utterance has the frames that the stock
        front-end with the same weights gives it without a batch.

    Raises
    ------
    ValueError
        If there are no channels, or the padding mode is unknown.

    Example
    -------
    >>> frontend = ConvSubsampling(n_mels=80, channels=[64, 32])
    >>> x, lengths = frontend(torch.randn(2, 101, 80), torch.tensor([101, 50]))
    >>> x.shape, lengths.tolist(), frontend.output_size
    (torch.Size([2, 26, 640]), [26, 13], 640)
    """

    kernel_size = 3
    stride = 2

    def __init__(
        self,
        *,
        n_mels: int,
        channels: list[int] | tuple[int, ...] = (64, 32),
        dropout: float = 0.1,
        padding_mode: str = "constant",
    ):
        super().__init__()
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode {padding_mode!r} is not one of {', '.join(PADDING_MODES)}")
        if not channels:
            raise ValueError("channels is empty: give the output channels of at least one block")
        num_blocks = len(channels)
        self.n_mels = n_mels
        self.channels = list(channels)
        self.padding_mode = padding_mode
        self.blocks = ConvolutionFrontEnd(
            input_shape=(None, None, n_mels),
            num_blocks=num_blocks,
            num_layers_per_block=1,
            out_channels=self.channels,
            kernel_sizes=[self.kernel_size] * num_blocks,
            strides=[self.stride] * num_blocks,
            residuals=[False] * num_blocks,
            conv_module=partial(Conv2d, padding_mode=padding_mode),
            dropout=dropout,
        )
        self.output_size = self.channels[-1] * self._after_blocks(n_mels)[-1]

    @property
    def conv_stages(self) -> list[ConvStage]:
        """Blocks as convolutions over time, whose costs include all frequency bands."""
        stages, bands, in_channels = [], self.n_mels, 1
        for channels in self.channels:
            size = self.kernel_size
            bands = ConvStage(size, self.stride, size // 2, 0).frames(bands)
            stages.append(ConvStage(size, self.stride, size // 2, size**2 * in_channels * channels * bands))
            in_channels = channels
        return stages

    def _after_blocks(self, size) -> list:
        """Return the size of an axis after each block (int or integer tensor)."""
        sizes = []
        for _ in self.channels:
            size = ConvStage(self.kernel_size, self.stride, self.kernel_size // 2, 0).frames(size)
            sizes.append(size)
        return sizes

    def forward(self, feats: torch.Tensor, num_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Subsample.

        Arguments
        ---------
        feats : torch.Tensor
            (batch, frames, n_mels).
        num_frames : torch.Tensor
            Valid frames, integers, (batch,).

        Returns
        -------
        tuple[torch.Tensor, torch.Tensor]
            (batch, frames after subsampling, output_size) and integer lengths (batch,).
        """
        x, lengths = zero_padding(feats, num_frames), num_frames
        for block, stage in zip(self.blocks.children(), self.conv_stages, strict=True):
            if self.padding_mode == "reflect":
                x = block(mirror_ends(x, lengths))[:, : stage.frames(x.shape[1])]
            else:
                x = block(x)
            lengths = stage.frames(lengths)
            x = zero_padding(x, lengths)
        return x.flatten(2), lengths
