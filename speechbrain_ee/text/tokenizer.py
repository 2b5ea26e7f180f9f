# SPDX-License-Identifier: Apache-2.0
"""Convert text to token ids and back with SentencePiece."""

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from unicodedata import normalize

import sentencepiece

from ee_runtime.files import check_not_pointer, read_bytes, write_whole
from ee_runtime.special_tokens import BLANK_INDEX, BOS_INDEX, EOS_INDEX, SPECIAL_TOKENS
from ee_runtime.text.normal_form import normal_form

MAX_BYTES = 32 * 2**20  # a model of 100,000 pieces has about 2 MB
MODEL_TYPES = ("bpe", "unigram", "char")


class Tokenizer:
    """A trained SentencePiece model whose id 0, ``<unk>``, is used as the CTC blank; BOS is 1, EOS is 2.

    A recogniser never emits ``<unk>``, so no id is lost.

    Arguments
    ---------
    path : str | Path
        The model file.

    Raises
    ------
    ValueError
        If the file is missing or not a SentencePiece model, or its ids 0, 1, 2 are not ``<unk>``, BOS and EOS.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["the cat"], path=path, model_type="char")
    >>> tokenizer.vocab_list
    ['<unk>', '<s>', '</s>', 't', '▁', 'a', 'c', 'e', 'h']
    >>> tokenizer.decode(tokenizer.encode("the cat"))
    'the cat'
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            what = "is a folder: give the file" if self.path.is_dir() else "does not exist: train it, or check the path"
            raise ValueError(f"tokenizer {path} {what}")
        check_not_pointer(path)
        try:
            data = read_bytes(self.path, max_bytes=MAX_BYTES)
        except ValueError as error:
            raise ValueError(f"{path} {error}: it is not a SentencePiece model, fetch it again") from None
        try:
            if not data:
                raise RuntimeError("SentencePiece accepts an empty file as a model without pieces")
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        except RuntimeError:
            raise ValueError(f"{path} is not a SentencePiece model: train it again") from None
        self._check_special_ids()
        self._is_known: dict[str, bool] = {}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        path: str | Path,
        model_type: str = "bpe",
        vocab_size: int | None = None,
        alphabet: str = "",
    ) -> "Tokenizer":
        """Train a model, write it atomically, and load it; the same texts give the same file.

        Arguments
        ---------
        texts : Iterable[str]
            Training texts, converted to NFC. All their characters become part of the alphabet; case is kept.
        path : str | Path
            The model file to write; its folder is created.
        model_type : str
            ``bpe``, ``unigram`` or ``char``.
        vocab_size : int | None
            Number of tokens, including ``<unk>``, BOS and EOS. For ``char`` it is an upper limit, and None means no
            limit, so that the texts and the alphabet determine the number. The other types need a number.
        alphabet : str
            Further characters of the alphabet.

        Returns
        -------
        Tokenizer
            The trained tokenizer; its ``vocab_size`` is the actual number of tokens.

        Raises
        ------
        ValueError
            If there is no text, the model type is unknown, or the vocabulary size is too large or too small for the
            texts; the message gives the possible range.

        Example
        -------
        >>> path = getfixture("tmp_path") / "bpe.model"
        >>> Tokenizer.train(["the cat sat on the mat"], path=path, vocab_size=20).vocab_size
        20
        """
        if model_type not in MODEL_TYPES:
            raise ValueError(f"model_type is {model_type!r}: choose from {', '.join(MODEL_TYPES)}")
        sentences, alphabet = [line for text in texts if (line := _one_line(text))], normal_form(alphabet)
        if not sentences:
            raise ValueError("there is no text to train the tokenizer on: give non-empty texts")
        # SentencePiece silently removes rare characters from a small `char` model: refuse such a size.
        smallest = len(set("".join(sentences)) | set(alphabet) | {" "}) + 3
        if model_type == "char" and vocab_size is None:
            vocab_size = smallest
        if vocab_size is None:
            raise ValueError(
                f"vocab_size is None: model_type {model_type} needs a number above {smallest}, such as 256"
            )
        if vocab_size < smallest:
            raise ValueError(
                f"vocab_size is {vocab_size}: these texts need at least {smallest} "
                f"({smallest - 3} characters with the space, <unk>, BOS and EOS)"
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _train(sentences, model_type, vocab_size, alphabet))
        return cls(path)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, including ``<unk>``, BOS and EOS; the output size of an exit head."""
        return self.processor.vocab_size()

    @property
    def vocab_list(self) -> list[str]:
        """Pieces by id (``▁`` starts a word), the format of SpeechBrain's CTC beam searchers."""
        return [self.processor.id_to_piece(index) for index in range(self.vocab_size)]

    def encode(self, text: str) -> list[int]:
        """Convert text to ids, without BOS and EOS.

        Characters outside the alphabet are dropped, because their id is that of the blank, which is never a label.
        Check for them with :meth:`unknown_characters`.
        """
        text = _one_line(text)
        ids = self.processor.encode(text, out_type=int)
        if BLANK_INDEX in ids:
            ids = self.processor.encode("".join(map(self._known_form, text)), out_type=int)
        return [index for index in ids if index != BLANK_INDEX]

    def decode(self, ids: Sequence[int]) -> str:
        """Convert ids to text; blank, BOS and EOS are skipped, repetitions are kept."""
        return _one_line(self.processor.decode([int(i) for i in ids if i not in SPECIAL_TOKENS]))

    def unknown_characters(self, text: str) -> set[str]:
        """Return the characters of a text that have no token; white space always has one."""
        return {character for character in set(_one_line(text)) if not self._knows(character)}

    def _known_form(self, character: str) -> str:
        """Return the parts of a letter if only they have tokens, as in earlier tokenizers of NFD texts."""
        parts = normalize("NFD", character)
        return parts if not self._has_token(character) and all(map(self._has_token, parts)) else character

    def _knows(self, character: str) -> bool:
        return all(map(self._has_token, self._known_form(character)))

    def _has_token(self, character: str) -> bool:
        if character not in self._is_known:
            ids = self.processor.encode(character, out_type=int)
            # A "▁" in a text would be decoded as a space.
            self._is_known[character] = BLANK_INDEX not in ids and character != "▁"
        return self._is_known[character]

    def _check_special_ids(self) -> None:
        processor = self.processor
        found = (processor.unk_id(), processor.bos_id(), processor.eos_id())
        if found != (BLANK_INDEX, BOS_INDEX, EOS_INDEX):
            raise ValueError(
                f"{self.path} has <unk>, BOS, EOS at {found}: they must be at (0, 1, 2), "
                "train it with unk_id=0 bos_id=1 eos_id=2"
            )


def _one_line(text: str) -> str:
    return " ".join(normal_form(text).split())


def _train(sentences: list[str], model_type: str, vocab_size: int, alphabet: str) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            character_coverage=1.0,
            required_chars=alphabet,
            # Texts are already in NFC; nothing else is changed.
            normalization_rule_name="identity",
            # In bytes; SentencePiece silently drops longer sentences.
            max_sentence_length=max(10, *(len(sentence.encode()) for sentence in sentences)),
            unk_id=BLANK_INDEX,
            bos_id=BOS_INDEX,
            eos_id=EOS_INDEX,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        limit = re.search(r"value <= (\d+)", str(error))
        if limit is None:
            raise ValueError(f"SentencePiece cannot train: {_one_line(str(error))}") from None
        raise ValueError(
            f"vocab_size is {vocab_size}: with {model_type} these texts allow at most "
            f"{limit.group(1)}; lower it, or give more text"
        ) from None
    return model.getvalue()
