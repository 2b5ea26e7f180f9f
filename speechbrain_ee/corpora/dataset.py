# SPDX-License-Identifier: Apache-2.0
"""From utterances to items, after checks that every item can be learned from."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from speechbrain_ee.corpora.audio import load_audio
from speechbrain_ee.corpora.augment import Augmentation
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.tokenizer import Tokenizer

logger = get_logger(__name__)

SAMPLE_RATE = 16000
INT16_SCALE = 32768


def stable_seed(*parts: object) -> int:
    """Turns any values into a seed that is the same in every process and on every machine.

    Arguments
    ---------
    *parts : object
        Told apart by their `str`.

    Returns
    -------
    int
        In [0, 2 ** 63).

    Example
    -------
    >>> stable_seed(0, 1, "a") == stable_seed(0, 1, "a") != stable_seed(0, 2, "a")
    True
    """
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class SpeechDataset(DynamicItemDataset):
    """SpeechBrain dataset with the items `id`, `sig`, `tokens` and `text`; see `make_dataset`.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With ids of their own.
    tokenizer : Tokenizer
        Text to token ids.
    augment : Augmentation | None
        Called as `augment(waveform, generator)`; None changes nothing.
    seed : int
        Of the augmentation.
    cache_audio : bool
        Read all audio now and keep it in memory as int16.
    sample_rate : int
        Of the waveforms, in Hz; other audio is resampled.
    read : Callable[[str], torch.Tensor] | None
        Gives ``sig`` for an id in place of the audio, (time, ...).

    Example
    -------
    >>> import soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", [0.5] * 16000, 16000)
    >>> tokenizer = Tokenizer.train(["the cat"], path=folder / "char.model", model_type="char")
    >>> item = SpeechDataset([Utterance("a", folder / "a.wav", 1.0, "the cat")], tokenizer)[0]
    >>> item["id"], item["sig"].shape, item["tokens"].shape
    ('a', torch.Size([16000]), torch.Size([8]))
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: Tokenizer,
        *,
        augment: Augmentation | None = None,
        seed: int = 0,
        cache_audio: bool = False,
        sample_rate: int = SAMPLE_RATE,
        read: Callable[[str], torch.Tensor] | None = None,
    ):
        _check_ids(utterances)
        self.sample_rate = sample_rate
        self.read = read
        self.epoch = 0
        self.augment = augment
        self.seed = seed
        self.tokenizer = tokenizer
        self._cache: dict[str, torch.Tensor] = {}
        data = {
            utterance.id: {
                "wav": str(utterance.audio_filepath),
                "duration": utterance.duration,
                "text": utterance.text,
            }
            for utterance in utterances
        }
        super().__init__(data, output_keys=["id", "sig", "tokens", "text"])
        self.add_dynamic_item(self._signal, takes=["id", "wav"], provides="sig")
        self.add_dynamic_item(self._tokens, takes=["text"], provides="tokens")
        if cache_audio:
            self._fill_cache()

    @property
    def durations(self) -> list[float]:
        """Seconds of every utterance, in order, before any augmentation."""
        return [self.data[name]["duration"] for name in self.data_ids]

    def _signal(self, name: str, path: str) -> torch.Tensor:
        if self.read is not None:
            return self.read(name)
        if name in self._cache:
            waveform = self._cache[name].float() / INT16_SCALE
        else:
            waveform = load_audio(path, self.sample_rate)
        if self.augment is None:
            return waveform
        # A function of the utterance and the epoch alone: no batch, worker or restart changes it.
        generator = torch.Generator().manual_seed(stable_seed(self.seed, self.epoch, name))
        return self.augment(waveform, generator)

    def _tokens(self, text: str) -> torch.Tensor:
        return torch.tensor(self.tokenizer.encode(text), dtype=torch.long)

    def _fill_cache(self) -> None:
        """Here and not when asked for: what a worker process caches is lost with its epoch."""
        for name in tqdm(self.data_ids, desc="audio into memory", delay=2, leave=False):
            scaled = (load_audio(self.data[name]["wav"], self.sample_rate) * INT16_SCALE).round()
            self._cache[name] = scaled.clamp_(max=INT16_SCALE - 1).to(torch.int16)


def make_dataset(
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    *,
    augment: Augmentation | None = None,
    seed: int = 0,
    cache_audio: bool = False,
    sample_rate: int = SAMPLE_RATE,
    read: Callable[[str], torch.Tensor] | None = None,
) -> SpeechDataset:
    """Makes a SpeechBrain dataset of utterances.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        As read_manifest gives them.
    tokenizer : Tokenizer
        Text to token ids.
    augment : Augmentation | None
        Called as `augment(waveform, generator)`, with a generator seeded by (seed, epoch, id).
    seed : int
        Of the augmentation.
    cache_audio : bool
        Keep all audio in memory as int16 (115 MB per hour); exact for 16-bit files at 16 kHz.
    sample_rate : int
        Of the waveforms, in Hz; other audio is resampled.
    read : Callable[[str], torch.Tensor] | None
        Gives ``sig`` for an id in place of the audio, (time, ...); nothing is augmented then.

    Returns
    -------
    SpeechDataset
        Items `id`, `sig` (samples,) float32, `tokens` (tokens,) long without BOS and EOS, `text`.
        Set its `epoch` before each epoch, or call the loader's `set_epoch`.

    Raises
    ------
    ValueError
        If there are no utterances, or two have the same id.

    Example
    -------
    >>> make_dataset([], None)
    Traceback (most recent call last):
    ValueError: there are no utterances: give a manifest with at least one line
    """
    return SpeechDataset(
        utterances,
        tokenizer,
        augment=augment,
        seed=seed,
        cache_audio=cache_audio,
        sample_rate=sample_rate,
        read=read,
    )


def check_alphabet(utterances: Sequence[Utterance], tokenizer: Tokenizer) -> None:
    """Checks that the tokenizer can write every text.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        Whose texts are to be labels.
    tokenizer : Tokenizer
        With the alphabet.

    Raises
    ------
    ValueError
        If a text has characters outside the alphabet; names how many, which, and the first id.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> check_alphabet([Utterance("a", path, 1.0, "the cat")], tokenizer)
    """
    unknown = {utt.id: tokenizer.unknown_characters(utt.text) for utt in utterances}
    bad_ids = [name for name, characters in unknown.items() if characters]
    if bad_ids:
        characters = "".join(sorted(set().union(*unknown.values())))
        raise ValueError(
            f"{len(bad_ids)} of {len(utterances)} texts have characters that the tokenizer does "
            f"not know: {characters!r} (first: {bad_ids[0]}); clean the texts, or train the "
            "tokenizer on texts that have these characters"
        )


def check_not_too_long(
    utterances: Sequence[Utterance],
    num_frames_fn: Callable[[int], int],
    max_frames: int | None,
    *,
    speed: float = 1.0,
    sample_rate: int = 16000,
) -> None:
    """Checks before training that the encoder takes every utterance.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With durations that are right (check_durations).
    num_frames_fn : Callable[[int], int]
        Encoder frames for a number of samples.
    max_frames : int | None
        What the encoder takes; None is no limit.
    speed : float
        The slowest that augmentation plays.
    sample_rate : int
        Of the samples, in Hz.

    Raises
    ------
    ValueError
        If an utterance is longer; counts them and names the first.

    Example
    -------
    >>> check_not_too_long([Utterance("a", "a.wav", 2.0, "b")], lambda samples: samples // 640, 100)
    """
    if max_frames is None:
        return
    too_long = [one for one in utterances if num_frames_fn(round(one.duration * sample_rate / speed)) > max_frames]
    if too_long:
        raise ValueError(
            f"{len(too_long)} of {len(utterances)} utterances are longer than the {max_frames} frames that the encoder "
            f"takes (first: {too_long[0].id}, {too_long[0].duration:.1f} s): cut or remove them; slow "
            "--speeds lengthen them, and a Conformer with --attention_type RelPosMHAXL has no limit"
        )


def ctc_frames_needed(tokens: Sequence[int]) -> int:
    """Counts the frames that CTC needs: one per token, and a blank between equal neighbours.

    Arguments
    ---------
    tokens : Sequence[int]
        Labels of one utterance.

    Returns
    -------
    int
        The fewest frames that can emit them.

    Example
    -------
    >>> ctc_frames_needed([5, 5, 7])  # 5, blank, 5, 7
    4
    """
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))


def drop_too_short(
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    num_frames_fn: Callable[[int], int],
    *,
    speed: float = 1.0,
    sample_rate: int = SAMPLE_RATE,
) -> list[Utterance]:
    """Drops what CTC cannot align; SpeechBrain's ctc_loss would count it as zero without a word.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With durations that are right (check_durations).
    tokenizer : Tokenizer
        Text to token ids.
    num_frames_fn : Callable[[int], int]
        Number of samples -> number of the encoder's output frames.
    speed : float
        The highest speed of the speed perturbation, which shortens utterances.
    sample_rate : int
        Of these samples, in Hz.

    Returns
    -------
    list[Utterance]
        Those that are long enough; what is dropped is counted and named in one warning.

    Raises
    ------
    ValueError
        If nothing is left.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> utterances = [Utterance("a", path, 0.1, "cat"), Utterance("b", path, 1.0, "cat")]
    >>> kept = drop_too_short(utterances, tokenizer, lambda num_samples: num_samples // 640)
    >>> [utterance.id for utterance in kept]
    ['b']
    """
    kept, dropped = [], []
    for utterance in utterances:
        num_frames = num_frames_fn(int(utterance.duration * sample_rate / speed))
        needed = ctc_frames_needed(tokenizer.encode(utterance.text))
        (kept if num_frames >= needed else dropped).append(utterance.id)
    if not kept:
        raise ValueError(
            f"all {len(utterances)} utterances are too short for their text under CTC: check the "
            "durations, use a larger vocabulary or less subsampling"
        )
    if dropped:
        logger.warning(
            "%d of %d utterances are too short for their text under CTC and are left out: %s%s",
            *(len(dropped), len(utterances), ", ".join(dropped[:5])),
            ", ..." if len(dropped) > 5 else "",
        )
    kept_ids = set(kept)
    return [utterance for utterance in utterances if utterance.id in kept_ids]


def _check_ids(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise ValueError("there are no utterances: give a manifest with at least one line")
    repeated = [name for name, count in Counter(u.id for u in utterances).items() if count > 1]
    if repeated:
        raise ValueError(
            f"{len(repeated)} ids are repeated (first: {repeated[0]!r}): joined manifests need ids that differ"
        )
