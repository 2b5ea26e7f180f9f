# SPDX-License-Identifier: Apache-2.0
"""Data loaders with padded batches that resume exactly."""

from collections.abc import Sequence

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader

from speechbrain_ee.corpora.batching import padded_seconds
from speechbrain_ee.corpora.dataset import SpeechDataset, stable_seed
from speechbrain_ee.corpora.sampler import BatchSampler
from speechbrain_ee.lobes.padding import pad_batch


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

    def share(self, number: int) -> float:
        """Return the share of a batch in the utterances of its optimizer step; the first batch has number 1."""
        return self.batch_sampler.parts[number - 1].share

    @property
    def num_parts(self) -> int:
        """Number of batches of an optimizer step, over all processes."""
        return self.batch_sampler.num_parts


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
    batches_per_step: int = 1,
    pin_memory: bool = False,
) -> SpeechLoader:
    """Make a data loader of padded batches of utterances of similar length.

    Buckets hold equal numbers of utterances (quantiles of the durations). The batches of an epoch depend on (seed,
    epoch) alone, and the global random generators are not used. In a distributed run, the processes share the shuffled
    batches, see :class:`~speechbrain_ee.corpora.sampler.BatchSampler`; each process evaluates all utterances.

    Lengths in a batch are integers: ``batch.sig`` is (waveforms, samples of each), ``batch.tokens`` is (tokens, number
    of each). SpeechBrain's own batches have relative lengths.

    Arguments
    ---------
    dataset : SpeechDataset
        The utterances.
    max_batch_seconds : float
        Upper limit of the audio in a batch of one process, including padding and before speed perturbation; a longer
        utterance is a batch by itself.
    max_batch_size : int | None
        Upper limit of the number of utterances in a batch of one process; None for no limit.
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
    batches_per_step : int
        Batches per optimizer step in each process (gradient accumulation); unused without shuffling.
    pin_memory : bool
        Pin memory for faster transfers to a GPU.

    Returns
    -------
    SpeechLoader
        Yields ``PaddedBatch``; call ``set_epoch(epoch)`` before each epoch.

    Raises
    ------
    ValueError
        If a limit is not above 0, ``drop_last`` leaves no batch, or no step has an utterance for each process.

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
        batches_per_step=batches_per_step,
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
    batches_per_step: int = 1,
) -> BatchSampler:
    """Make the sampler of :func:`make_loader`, whose length is known without reading audio.

    Arguments
    ---------
    seconds : Sequence[float]
        Length of each utterance, see :func:`~speechbrain_ee.corpora.batching.padded_seconds`.
    max_batch_seconds, max_batch_size, num_buckets, shuffle, seed, drop_last, batches_per_step
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
        **(_place() | {"parts_per_process": batches_per_step} if shuffle else {}),
    )


def _place() -> dict[str, int]:
    """Return the rank of this process and the number of processes."""
    if not torch.distributed.is_initialized():
        return {"rank": 0, "num_processes": 1}
    return {"rank": torch.distributed.get_rank(), "num_processes": torch.distributed.get_world_size()}


def _collate(examples: list[dict]) -> PaddedBatch:
    return PaddedBatch(examples, padding_func=pad_batch)


def _boundaries(durations: Sequence[float], num_buckets: int) -> list[float]:
    """Return the right edges of the buckets: quantiles of the durations, the last is the maximum.

    The stock sampler's edges come from a log-normal law scaled to ``max_batch_seconds``: all short utterances would
    fall into one bucket, whose batches are far below the limit.
    """
    shares = np.arange(1, num_buckets + 1) / num_buckets
    return np.unique(np.quantile(np.asarray(durations), shares)).tolist()
