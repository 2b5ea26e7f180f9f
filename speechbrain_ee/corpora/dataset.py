# SPDX-License-Identifier: Apache-2.0
"""A SpeechBrain dataset of utterances: waveforms, tokens and texts."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from tqdm import tqdm

from ee_runtime.audio import Excerpt
from ee_runtime.threads import available_cpus
from speechbrain_ee.corpora.augment import Augmentation
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.recordings import load_audio
from speechbrain_ee.text.tokenizer import Tokenizer

INT16_SCALE = 32768


def stable_seed(*parts: object) -> int:
    """Hash values to a seed that is the same in every process and on every machine.

    Arguments
    ---------
    *parts : object
        Distinguished by their ``str``.

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
    """A SpeechBrain dataset of utterances.

    Its items are ``id``; ``sig``, the waveform (samples,) in float32; ``tokens`` (tokens,), long, without BOS and EOS;
    and ``text``. Set ``epoch`` before each epoch, or call :meth:`SpeechLoader.set_epoch`.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        With unique ids.
    tokenizer : Tokenizer
        Text to token ids.
    augment : Augmentation | None
        Called as ``augment(waveform, generator)``, with a generator seeded by (seed, epoch, id); None for none.
    seed : int
        Seed of the augmentation.
    cache_audio : bool
        Read all audio at construction and keep it in memory as int16 (115 MB per hour at 16 kHz); lossless for 16-bit
        files at ``sample_rate``.
    sample_rate : int
        Sample rate of the waveforms in Hz; other audio is resampled.
    read : Callable[[str], torch.Tensor] | None
        Returns ``sig`` (time, ...) of an id in place of the audio; it is not augmented.

    Raises
    ------
    ValueError
        If there are no utterances, or two have the same id.

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
        sample_rate: int = 16000,
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
                "excerpt": utterance.excerpt,
                "duration": utterance.duration,
                "text": utterance.text,
            }
            for utterance in utterances
        }
        super().__init__(data, output_keys=["id", "sig", "tokens", "text"])
        self.add_dynamic_item(self._signal, takes=["id", "wav", "excerpt"], provides="sig")
        self.add_dynamic_item(self._tokens, takes=["text"], provides="tokens")
        if cache_audio:
            self._fill_cache()

    @property
    def durations(self) -> list[float]:
        """Durations of the utterances in order, in seconds, before augmentation."""
        return [self.data[name]["duration"] for name in self.data_ids]

    def _signal(self, name: str, path: str, excerpt: Excerpt | None) -> torch.Tensor:
        if self.read is not None:
            return self.read(name)
        if name in self._cache:
            waveform = self._cache[name].float() / INT16_SCALE
        else:
            waveform = load_audio(path, self.sample_rate, excerpt=excerpt)
        if self.augment is None:
            return waveform
        # The seed depends on the utterance and the epoch alone, not on batches, workers or restarts.
        generator = torch.Generator().manual_seed(stable_seed(self.seed, self.epoch, name))
        return self.augment(waveform, generator)

    def _tokens(self, text: str) -> torch.Tensor:
        return torch.tensor(self.tokenizer.encode(text), dtype=torch.long)

    def _fill_cache(self) -> None:
        """Fill the cache in the main process: a worker process loses its memory at the end of an epoch."""

        def as_int16(name: str) -> torch.Tensor:
            wav, excerpt = (self.data[name][key] for key in ("wav", "excerpt"))
            scaled = (load_audio(wav, self.sample_rate, excerpt=excerpt) * INT16_SCALE).round()
            return scaled.clamp_(max=INT16_SCALE - 1).to(torch.int16)

        with ThreadPoolExecutor(available_cpus()) as pool:  # decoding releases the GIL
            recordings = pool.map(as_int16, self.data_ids)
            bar = tqdm(recordings, desc="audio into memory", total=len(self.data_ids), delay=2, leave=False)
            self._cache = dict(zip(self.data_ids, bar, strict=True))


def _check_ids(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise ValueError("there are no utterances: give a manifest with at least one line")
    repeated = [name for name, count in Counter(u.id for u in utterances).items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated)} ids are repeated (first: {repeated[0]!r}): give every utterance a unique id")
