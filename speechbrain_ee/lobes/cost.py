# SPDX-License-Identifier: Apache-2.0
"""Cost of each exit: multiply-accumulates and parameters; and the speed of the machine, to compare measured times."""

import time

import torch

from ee_runtime.machine import cpu_name
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.heads import CTCHeads


def exit_macs(encoder: ExitEncoder, heads: CTCHeads, num_frames: int, *, heads_run: int | None = None) -> list[int]:
    """Compute the multiply-accumulates of one utterance up to each exit, without padding.

    Arguments
    ---------
    encoder : ExitEncoder
        The encoder.
    heads : CTCHeads
        Its heads.
    num_frames : int
        Feature frames of the utterance.
    heads_run : int | None
        Number of heads that are run. None means all heads up to the exit, for a policy that reads every exit; 1 means
        the head of the exit alone, for a static exit.

    Returns
    -------
    list[int]
        One increasing number per exit. Features (an FFT) and decoding are not counted.

    Example
    -------
    >>> from speechbrain_ee.lobes import ConformerExitEncoder
    >>> encoder = ConformerExitEncoder(n_mels=80, num_layers=2, exit_layers=[1, 2], d_model=16, nhead=2, d_ffn=32)
    >>> heads = CTCHeads(num_exits=2, d_model=16, vocab_size=30)
    >>> first, second = exit_macs(encoder, heads, 101)
    >>> second - first == encoder.layer_macs(26) + heads.macs(26)
    True
    """
    return encoder.cost_model(heads.macs(1)).exit_macs(num_frames, heads_run)


def exit_parameters(encoder: ExitEncoder, heads: CTCHeads) -> list[int]:
    """Count the parameters of a model cut at each exit: front-end, layers up to the exit, and its head.

    Example
    -------
    >>> from speechbrain_ee.lobes import ConformerExitEncoder
    >>> encoder = ConformerExitEncoder(n_mels=80, num_layers=2, exit_layers=[1, 2], d_model=16, nhead=2, d_ffn=32)
    >>> heads = CTCHeads(num_exits=2, d_model=16, vocab_size=30)
    >>> counts = exit_parameters(encoder, heads)
    >>> counts[1] - counts[0] == count_parameters(encoder.layers[1])
    True
    """
    layers = [count_parameters(layer) for layer in encoder.layers]
    outside = count_parameters(encoder) - sum(layers)
    heads_of_exits = [sum(map(count_parameters, heads.modules_of(index))) for index in range(len(encoder.exit_layers))]
    return [
        outside + sum(layers[:exit_layer]) + head
        for exit_layer, head in zip(encoder.exit_layers, heads_of_exits, strict=True)
    ]


def count_parameters(module: torch.nn.Module) -> int:
    """Count parameters, including frozen ones.

    Example
    -------
    >>> count_parameters(torch.nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def machine(num_runs: int = 5, size: int = 1024) -> dict:
    """Name the CPU and measure its matrix product in this process, so that times of machines can be compared.

    Returns
    -------
    dict
        ``cpu`` (name), ``threads`` (of torch) and ``gemm_gflops`` (10^9 floating-point operations per second, the best
        of ``num_runs`` float32 products of ``size`` x ``size`` matrices).

    Example
    -------
    >>> sorted(machine(num_runs=1, size=64))
    ['cpu', 'gemm_gflops', 'threads']
    """
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(num_runs + 1):
        begin = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - begin)
    gflops = 2 * size**3 / min(seconds[1:]) / 1e9
    return {"cpu": cpu_name(), "threads": torch.get_num_threads(), "gemm_gflops": round(gflops, 1)}
