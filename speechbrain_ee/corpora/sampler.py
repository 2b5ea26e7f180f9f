# SPDX-License-Identifier: Apache-2.0
"""Training batches as a function of seed and epoch, and the part of each process in them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from speechbrain.dataio.sampler import DynamicBatchSampler

from speechbrain_ee.corpora.batching import length_batches


class Part(NamedTuple):
    """Utterances of one optimizer step that one process takes in one forward pass.

    Arguments
    ---------
    indices : list[int]
        Positions of the utterances in the dataset, at least one.
    share : float
        Number of these utterances / number of utterances of the step; 0 if other parts have them all already.
    """

    indices: list[int]
    share: float


def split_step(indices: Sequence[int], num_parts: int) -> list[Part]:
    """Split the utterances of an optimizer step into parts whose sizes differ by at most one.

    Every part needs a forward pass, because the processes exchange their gradients. If there are fewer utterances than
    parts, the other parts repeat the first utterance with a share of 0.

    Arguments
    ---------
    indices : Sequence[int]
        Positions of the utterances in the dataset, at least one.
    num_parts : int
        Number of parts, at least 1.

    Returns
    -------
    list[Part]
        The parts; their shares sum to 1.

    Example
    -------
    >>> split_step([7, 5, 3, 2], 2)
    [Part(indices=[7, 3], share=0.5), Part(indices=[5, 2], share=0.5)]
    >>> split_step([7], 2)
    [Part(indices=[7], share=1.0), Part(indices=[7], share=0.0)]
    """
    split = [list(indices[number::num_parts]) for number in range(num_parts)]
    return [Part(part or [indices[0]], len(part) / len(indices)) for part in split]


class BatchSampler(DynamicBatchSampler):
    """SpeechBrain's dynamic batches as a function of seed and epoch, shared by the processes of a distributed run.

    The stock sampler reshuffles whenever it is exhausted, so its batches depend on how often it ran. This sampler
    reshuffles in ``set_epoch`` only. Without shuffling it returns the batches of
    :func:`~speechbrain_ee.corpora.batching.length_batches`, all of them on every process.

    With shuffling, the utterances of an optimizer step are drawn from one bucket for all processes together and then
    split, see :func:`split_step`. They depend on ``num_processes * parts_per_process`` alone: two processes train on
    the same utterances per step as one process that accumulates the gradients of two batches. All processes have
    utterances of similar length, so that none waits long for another.

    Arguments
    ---------
    *args, **kwargs
        As of ``DynamicBatchSampler``; the limits apply to each part.
    rank : int
        This process, 0..num_processes - 1.
    num_processes : int
        Number of processes.
    parts_per_process : int
        Number of batches per optimizer step in each process (gradient accumulation).

    Raises
    ------
    ValueError
        If even the largest optimizer step has fewer utterances than parts.

    Example
    -------
    >>> sampler = BatchSampler(range(3), 4.0, bucket_boundaries=[2.0], lengths_list=[1, 2, 9])
    >>> sorted(map(sorted, sampler))  # 9 s is a batch by itself, although longer than 4 s and than every bucket
    [[0, 1], [2]]
    >>> options = {"bucket_boundaries": [2.0], "lengths_list": [1, 2, 2], "num_processes": 2}
    >>> shares = [BatchSampler(range(3), 4.0, rank=rank, **options) for rank in (0, 1)]
    >>> sorted(index for share in shares for batch in share for index in batch)
    [0, 1, 2]
    """

    def __init__(self, *args, rank: int = 0, num_processes: int = 1, parts_per_process: int = 1, **kwargs):
        self._rank, self._num_processes, self._parts_per_process = rank, num_processes, parts_per_process
        super().__init__(*args, **kwargs)
        if self._shuffle_ex and self.num_parts > 1:
            # The limits of a part, times the number of parts. A part then never exceeds the limits.
            self._bucket_lens = [size * self.num_parts for size in self._bucket_lens]
            self._max_batch_ex *= self.num_parts
            self._generate_batches()
            self._check_size()

    @property
    def num_parts(self) -> int:
        """Number of parts of an optimizer step, over all processes."""
        return self._num_processes * self._parts_per_process

    def _check_size(self) -> None:
        largest = max(map(len, self._batches), default=self.num_parts)
        if largest < self.num_parts:
            raise ValueError(
                f"an optimizer step needs {self.num_parts} utterances (grad_accumulation_factor="
                f"{self._parts_per_process} times {self._num_processes} processes), but there are at most {largest} of "
                "similar length: lower grad_accumulation_factor or num_buckets, or start fewer processes"
            )

    def _generate_batches(self) -> None:
        if not self._shuffle_ex:
            seconds = [self._ex_lengths[str(index)] for index in range(len(self._dataset))]
            size = None if np.isinf(self._max_batch_ex) else self._max_batch_ex
            self._batches = length_batches(seconds, self._max_batch_length, max_batch_size=size)
            self.parts = [Part(batch, 1.0) for batch in self._batches]
            return
        super()._generate_batches()
        split = (split_step(batch, self.num_parts)[self._rank :: self._num_processes] for batch in self._batches)
        self.parts = [part for parts in split for part in parts]

    def __iter__(self) -> Iterator[list[int]]:
        return iter([part.indices for part in self.parts])

    def __len__(self) -> int:
        return len(self.parts)
