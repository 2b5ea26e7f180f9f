# SPDX-License-Identifier: Apache-2.0
"""Cut long recordings at pauses, so that memory does not grow with their length."""

import torch


def cut_at_pauses(
    waveform: torch.Tensor,
    sample_rate: int,
    *,
    max_seconds: float,
    search_seconds: float = 10.0,
    pause_seconds: float = 0.2,
) -> list[torch.Tensor]:
    """Cut a waveform into parts of at most ``max_seconds``, each cut in the quietest place near the limit.

    Arguments
    ---------
    waveform : torch.Tensor
        (samples,).
    sample_rate : int
        In Hz.
    max_seconds : float
        Longest part.
    search_seconds : float
        A part ends in the quietest place of its last ``search_seconds`` (of the whole part where that is shorter).
    pause_seconds : float
        Loudness is measured over windows of this length.

    Returns
    -------
    list[torch.Tensor]
        The parts in order; together they are the waveform.

    Raises
    ------
    ValueError
        If the pause does not fit into the search, or a part has room for no sample.

    Example
    -------
    >>> parts = cut_at_pauses(torch.randn(50), 1, max_seconds=20, search_seconds=10, pause_seconds=1)
    >>> sum(len(part) for part in parts), max(len(part) for part in parts) <= 20
    (50, True)
    """
    limit = int(max_seconds * sample_rate)
    search = min(int(search_seconds * sample_rate), limit)
    window = max(1, int(pause_seconds * sample_rate))
    if not 0 < window < search:
        raise ValueError(
            f"pause_seconds={pause_seconds} must be shorter than search_seconds={search_seconds} and "
            f"max_seconds={max_seconds}: change one of them"
        )
    parts = []
    while len(waveform) > limit:
        # in double: a pause after loud speech would drown in the rounding of the running sum
        energy = waveform[limit - search : limit].double().square().cumsum(0)
        loudness = energy[window:] - energy[:-window]  # of the window that ends at each sample
        cut = limit - search + int(loudness.argmin()) + 1 + window // 2
        parts.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*parts, waveform]
