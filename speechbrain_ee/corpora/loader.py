# SPDX-License-Identifier: Apache-2.0
"""Data loaders with padded batches that resume exactly."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.sampler import DynamicBatchSampler

from speechbrain_ee.corpora.batching import length_batches, padded_seconds
from speechbrain_ee.corpora.dataset import SpeechDataset, stable_seed
from speechbrain_ee.lobes.padding import pad_batch


def shard_batches(batches: Sequence, rank: int, world_size: int, *, drop_last: bool) -> list:
    """Return the share of one process; all processes get the same number of batches.

    Arguments
    ---------
    batches : Sequence
        The same on every process.
    rank : int
        0..world_size - 1.
    world_size : int
        Number of processes.
    drop_last : bool
        Leave out the remainder of the division; otherwise repeat the first batches.

    Returns
    -------
    list
        Every ``world_size``-th batch, starting at ``rank``.

    Example
    -------
    >>> [shard_batches("abc", rank, 2, drop_last=False) for rank in (0, 1)]
    [['a', 'c'], ['b', 'a']]
    """
    if drop_last:
        count = len(batches) // world_size * world_size
    else:
        count = -(-len(batches) // world_size) * world_size
    return [batches[position % len(batches)] for position in range(rank, count, world_size)]


class BatchSampler(DynamicBatchSampler):
    """SpeechBrain's dynamic batches as a function of seed and epoch, optionally sharded over processes.

    The stock sampler reshuffles whenever it is exhausted, so its batches depend on how often it ran. This sampler
    reshuffles in ``set_epoch`` only. Without shuffling it returns the batches of
    :func:`~speechbrain_ee.corpora.batching.length_batches`.

    Arguments
    ---------
    *args, **kwargs
        As of ``DynamicBatchSampler``.
    shard : bool
        Whether the processes of a distributed run share the batches; otherwise each takes all of them.

    Example
    -------
    >>> sampler = BatchSampler(range(3), 4.0, bucket_boundaries=[2.0], lengths_list=[1, 2, 9])
    >>> sorted(map(sorted, sampler))  # 9 s is a batch by itself, although longer than 4 s and than every bucket
    [[0, 1], [2]]
    """

    def __init__(self, *args, shard: bool = False, **kwargs):
        self._shard = shard
        super().__init__(*args, **kwargs)

    def _generate_batches(self) -> None:
        if self._shuffle_ex:
            super()._generate_batches()
            return
        seconds = [self._ex_lengths[str(index)] for index in range(len(self._dataset))]
        size = None if np.isinf(self._max_batch_ex) else self._max_batch_ex
        self._batches = length_batches(seconds, self._max_batch_length, max_batch_size=size)

    def _share(self) -> list[list[int]]:
        if not (self._shard and torch.distributed.is_initialized()):
            return self._batches
        rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        return shard_batches(self._batches, rank, world_size, drop_last=self._drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._share())

    def __len__(self) -> int:
        return len(self._share())


class SpeechLoader(SaveableDataLoader):
    """SpeechBrain's saveable loader with a method that starts an epoch.

    Example
    -------
    >>> SpeechLoader([1, 2, 3, 4], batch_size=2).generator is None
    True
    """

    def set_epoch(self, epoch: int) -> None:
        """Select the batches and the augmentation of an epoch; call it before each epoch."""
        self.dataset.epoch = epoch
        self.batch_sampler.set_epoch(epoch)
        self.generator.manual_seed(stable_seed("loader", epoch))


def make_loader(
    dataset: SpeechDataset,
    *,
    max_batch_seconds: float,
    max_batch_size: int | None = None,
    min_seconds: float = 0.0,
    num_buckets: int = 10,
    shuffle: bool,
    seed: int = 0,
    num_workers: int = 0,
    drop_last: bool = False,
    shard: bool | None = None,
    pin_memory: bool = False,
) -> SpeechLoader:
    """Make a data loader of padded batches of utterances of similar length.

    Buckets hold equal numbers of utterances (quantiles of the durations). The batches of an epoch depend on (seed,
    epoch) alone, and the global random generators are not used.

    Lengths in a batch are integers: ``batch.sig`` is (waveforms, samples of each), ``batch.tokens`` is (tokens, number
    of each). SpeechBrain's own batches have relative lengths.

    Arguments
    ---------
    dataset : SpeechDataset
        The utterances.
    max_batch_seconds : float
        Upper limit of the audio in a batch, including padding and before speed perturbation; a longer utterance is a
        batch by itself.
    max_batch_size : int | None
        Upper limit of the number of utterances in a batch; None for no limit.
    min_seconds : float
        Features of shorter utterances are padded to this length, see :attr:`Features.min_seconds`.
    num_buckets : int
        More buckets = less padding and less random batches; unused without shuffling.
    shuffle : bool
        False sorts the batches, longest first, for evaluation.
    seed : int
        Seed of the shuffling.
    num_workers : int
        Processes that read audio; 0 reads in the training process.
    drop_last : bool
        Leave out the incomplete batch of each bucket; without shuffling all utterances are kept.
    shard : bool | None
        In a distributed run, whether the processes share the batches, see :func:`shard_batches`. None means as
        ``shuffle``, so that each process evaluates all utterances.
    pin_memory : bool
        Pin memory for faster transfers to a GPU.

    Returns
    -------
    SpeechLoader
        Yields ``PaddedBatch``; call ``set_epoch(epoch)`` before each epoch.

    Raises
    ------
    ValueError
        If a limit is not above 0, or ``drop_last`` leaves no batch.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ee.corpora.manifest import Utterance
    >>> from speechbrain_ee.text.tokenizer import Tokenizer
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", [0.5] * 16000, 16000)
    >>> tokenizer = Tokenizer.train(["the cat"], path=folder / "char.model", model_type="char")
    >>> dataset = SpeechDataset([Utterance("a", folder / "a.wav", 1.0, "the cat")], tokenizer)
    >>> batch = next(iter(make_loader(dataset, max_batch_seconds=10, shuffle=False)))
    >>> batch.id, batch.sig.data.shape, batch.sig.lengths
    (['a'], torch.Size([1, 16000]), tensor([16000]))
    """
    sampler = make_sampler(
        padded_seconds(dataset.durations, min_seconds),
        max_batch_seconds=max_batch_seconds,
        max_batch_size=max_batch_size,
        num_buckets=num_buckets,
        shuffle=shuffle,
        seed=seed,
        drop_last=drop_last,
        shard=shard,
    )
    if len(sampler) == 0:
        raise ValueError(f"drop_last leaves no batch of {len(dataset)} utterances: set drop_last to False")
    return SpeechLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=_collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        # Without this generator, every new iterator would draw from the global one.
        generator=torch.Generator().manual_seed(stable_seed("loader", 0)),
    )


def make_sampler(
    seconds: Sequence[float],
    *,
    max_batch_seconds: float,
    max_batch_size: int | None,
    num_buckets: int,
    shuffle: bool,
    seed: int = 0,
    drop_last: bool = False,
    shard: bool | None = None,
) -> BatchSampler:
    """Make the sampler of :func:`make_loader`, whose length is known without reading audio.

    Arguments
    ---------
    seconds : Sequence[float]
        Length of each utterance, see :func:`~speechbrain_ee.corpora.batching.padded_seconds`.
    max_batch_seconds, max_batch_size, num_buckets, shuffle, seed, drop_last, shard
        See :func:`make_loader`.

    Returns
    -------
    BatchSampler
        Its length is the number of batches of an epoch in this process.

    Example
    -------
    >>> len(make_sampler([1.0, 1.0, 3.0], max_batch_seconds=3, max_batch_size=None, num_buckets=2, shuffle=True))
    2
    """
    limits = {"max_batch_seconds": max_batch_seconds, "num_buckets": num_buckets}
    for name, value in {**limits, "max_batch_size": max_batch_size or 1}.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}: it must be above 0")
    return BatchSampler(
        range(len(seconds)),
        max_batch_seconds,
        bucket_boundaries=_boundaries(seconds, num_buckets),
        lengths_list=list(seconds),
        max_batch_ex=max_batch_size,
        shuffle=shuffle,
        batch_ordering="random" if shuffle else "descending",
        # The stock sampler uses seed + epoch: hashing the seed keeps the epochs of two seeds apart.
        seed=stable_seed("batches", seed) >> 8,
        drop_last=drop_last,
        shard=shuffle if shard is None else shard,
    )


def _collate(examples: list[dict]) -> PaddedBatch:
    return PaddedBatch(examples, padding_func=pad_batch)


def _boundaries(durations: Sequence[float], num_buckets: int) -> list[float]:
    """Return the right edges of the buckets: quantiles of the durations, the last is the maximum.

    The stock sampler's edges come from a log-normal law scaled to ``max_batch_seconds``: all short utterances would
    fall into one bucket, whose batches are far below the limit.
    """
    shares = np.arange(1, num_buckets + 1) / num_buckets
    return np.unique(np.quantile(np.asarray(durations), shares)).tolist()
