# SPDX-License-Identifier: Apache-2.0
"""Batches of utterances of similar length, longest first, for validation, evaluation and state caches."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def padded_seconds(durations: Sequence[float], min_seconds: float = 0.0) -> list[float]:
    """Return the length of each utterance after the padding of its features.

    Arguments
    ---------
    durations : Sequence[float]
        Durations of the recordings in seconds.
    min_seconds : float
        :attr:`Features.min_seconds`: features of shorter recordings are padded to this length.

    Returns
    -------
    list[float]
        Seconds, one per utterance.

    Example
    -------
    >>> padded_seconds([1.0, 40.0], min_seconds=30.0)
    [30.0, 40.0]
    """
    return [max(duration, min_seconds) for duration in durations]


def length_batches(
    seconds: Sequence[float], max_batch_seconds: float, *, max_batch_size: int | None = None
) -> list[list[int]]:
    """Group utterances of similar length into batches.

    The longest come first, so that a batch that does not fit into memory fails at once, not after hours.

    Arguments
    ---------
    seconds : Sequence[float]
        Length of each utterance, see :func:`padded_seconds`.
    max_batch_seconds : float
        Upper limit of a batch, including padding; a longer utterance is a batch by itself.
    max_batch_size : int | None
        Upper limit of the number of utterances; None for no limit.

    Returns
    -------
    list[list[int]]
        Positions in ``seconds``; each is in exactly one batch.

    Example
    -------
    >>> length_batches([2, 5, 1], 4)
    [[1], [0, 2]]
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(seconds)), key=lambda one: seconds[one], reverse=True):
        last = batches[-1] if batches else []
        is_full = max_batch_size is not None and len(last) >= max_batch_size
        if not last or is_full or (len(last) + 1) * seconds[last[0]] > max_batch_seconds:
            batches.append([])
        batches[-1].append(position)
    return batches


def run_batch(run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]) -> list[Result | Exception]:
    """Run a batch; if it fails, run its items one by one.

    Only errors of memory, input and computation are caught, not bugs such as ``KeyError``.

    Arguments
    ---------
    run : Callable
        Takes items and returns one result per item.
    items : Sequence
        The batch.

    Returns
    -------
    list
        For each item its result, or the error with which it failed alone.

    Example
    -------
    >>> def halve(numbers):
    ...     if 3 in numbers:
    ...         raise RuntimeError("3 is odd")
    ...     return [number // 2 for number in numbers]
    >>> run_batch(halve, [2, 3, 4])
    [1, RuntimeError('3 is odd'), 2]
    """
    results, error = _tried(run, items)
    if error is None:
        return results
    if len(items) == 1:
        return [error]
    return [result for item in items for result in run_batch(run, [item])]


def _tried(run: Callable, items: Sequence) -> tuple[list, Exception | None]:
    """Return results and the error. Its traceback is removed: it would keep the tensors of the failed call alive."""
    try:
        return run(items), None
    except (RuntimeError, ValueError, OSError, MemoryError) as error:
        return [], error.with_traceback(None)
