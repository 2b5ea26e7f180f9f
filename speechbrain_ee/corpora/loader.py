# SPDX-License-Identifier: Apache-2.0
"""From items to padded batches that can be resumed exactly."""

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
    """Gives one process its share of the batches; every process gets equally many.

    Arguments
    ---------
    batches : Sequence
        The same on every process.
    rank : int
        0..world_size - 1.
    world_size : int
        Number of processes.
    drop_last : bool
        Leave out what does not divide; otherwise the first batches are used again.

    Returns
    -------
    list
        Every world_size-th batch from rank on.

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
    """SpeechBrain's dynamic batches as a pure function of seed and epoch, a share per process.

    The stock sampler shuffles itself again whenever it is exhausted, so what it gives depends on
    how often it ran; this one changes with `set_epoch` alone. Without shuffling, batches are those of
    :func:`~speechbrain_ee.corpora.batching.length_batches`.

    Arguments
    ---------
    *args, **kwargs
        As DynamicBatchSampler's.
    shard : bool
        Whether processes of a distributed run share the batches or each take all.

    Example
    -------
    >>> sampler = BatchSampler(range(3), 4.0, bucket_boundaries=[2.0], lengths_list=[1, 2, 9])
    >>> sorted(map(sorted, sampler))  # 9 s alone, though longer than 4 s and every bucket
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
    """SpeechBrain's saveable loader with one call that starts an epoch.

    Example
    -------
    >>> SpeechLoader([1, 2, 3, 4], batch_size=2).generator is None
    True
    """

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch's batches and augmentation; call it before each epoch."""
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
    """Makes padded batches of utterances of similar length.

    The buckets hold equally many utterances each (quantiles of the durations). The batches of an
    epoch are a function of (seed, epoch), and no global random number is drawn.

    Arguments
    ---------
    dataset : SpeechDataset
        From make_dataset.
    max_batch_seconds : float
        Upper limit of a batch's padded audio; a longer utterance is a batch of its own. Speed
        perturbation comes on top (at most 1 / 0.9).
    max_batch_size : int | None
        Upper limit of a batch's utterances; None: no limit.
    min_seconds : float
        Features of shorter utterances are padded to this length, and count as so long.
    num_buckets : int
        More = less padding, less random batches; without shuffling there are no buckets.
    shuffle : bool
        False: longest batches first, for evaluation.
    seed : int
        Of the shuffling.
    num_workers : int
        Processes that read audio; 0: the training process itself.
    drop_last : bool
        Leave out the incomplete batch of each bucket; without shuffling every utterance is kept.
    shard : bool | None
        In a distributed run, whether the processes share the batches (equally many each; the first
        are used twice where they do not divide). None: as shuffle, so that evaluation sees all.
    pin_memory : bool
        Faster transfers to a GPU.

    Returns
    -------
    SpeechLoader
        Of PaddedBatch; call `set_epoch(epoch)` before each epoch. Lengths in a batch are integers (samples, tokens),
        not relative as in SpeechBrain's own batches.

    Raises
    ------
    ValueError
        If a limit is not above 0, or drop_last leaves no batch.

    Example
    -------
    >>> import soundfile
    >>> from speechbrain_ee.corpora import Utterance, make_dataset
    >>> from speechbrain_ee.text.tokenizer import Tokenizer
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", [0.5] * 16000, 16000)
    >>> tokenizer = Tokenizer.train(["the cat"], path=folder / "char.model", model_type="char")
    >>> dataset = make_dataset([Utterance("a", folder / "a.wav", 1.0, "the cat")], tokenizer)
    >>> batch = next(iter(make_loader(dataset, max_batch_seconds=10, shuffle=False)))
    >>> batch.id, batch.sig.data.shape, batch.sig.lengths
    (['a'], torch.Size([1, 16000]), tensor([16000]))
    """
    limits = {"max_batch_seconds": max_batch_seconds, "num_buckets": num_buckets}
    for name, value in {**limits, "max_batch_size": max_batch_size or 1}.items():
        if value <= 0:
            raise ValueError(f"{name} is {value}: it must be above 0")
    seconds = padded_seconds(dataset.durations, min_seconds)
    sampler = BatchSampler(
        dataset,
        max_batch_seconds,
        bucket_boundaries=_boundaries(seconds, num_buckets),
        lengths_list=seconds,
        max_batch_ex=max_batch_size,
        shuffle=shuffle,
        batch_ordering="random" if shuffle else "descending",
        # The stock sampler seeds by seed + epoch: keep the epochs of two seeds apart.
        seed=stable_seed("batches", seed) >> 8,
        drop_last=drop_last,
        shard=shuffle if shard is None else shard,
    )
    if len(sampler) == 0:
        raise ValueError(f"drop_last leaves no batch of {len(dataset)} utterances: set drop_last to False")
    return SpeechLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=_collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        # Without one of its own, every new iterator would draw from the global generator.
        generator=torch.Generator().manual_seed(stable_seed("loader", 0)),
    )


def _collate(examples: list[dict]) -> PaddedBatch:
    return PaddedBatch(examples, padding_func=pad_batch)


def _boundaries(durations: Sequence[float], num_buckets: int) -> list[float]:
    """Right edges of the buckets: quantiles, the last is the longest duration.

    The stock sampler's own edges come from a log-normal law scaled to max_batch_seconds: all short
    utterances fall into one bucket, and one bucket means batches of one.
    """
    shares = np.arange(1, num_buckets + 1) / num_buckets
    return np.unique(np.quantile(np.asarray(durations), shares)).tolist()
