# SPDX-License-Identifier: Apache-2.0
"""From log-probabilities of an exit head to text: greedy and beam over SpeechBrain's CTC decoders.

SpeechBrain takes relative lengths and turns them back into frames, in the beam searcher by
truncation: 32 of 41 frames become 31. Here lengths are integers, and each utterance is cut to its
own frames before a decoder sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from speechbrain.decoders.ctc import CTCBeamSearcher, filter_ctc_output

from speechbrain_ee.lobes.padding import check_lengths
from speechbrain_ee.words import greedy_spans

if TYPE_CHECKING:
    from speechbrain_ee.tokenizer import Tokenizer

N_BEST = 10  # hypotheses that share the posterior

# Pieces that stand for no text; SentencePiece drops them, SpeechBrain's beam would print them.
_CONTROL_PIECES = ("<s>", "</s>")


@dataclass(frozen=True)
class Decoded:
    """One utterance's text and what else its decoder knows.

    Arguments
    ---------
    text : str
        The words.
    spans : list of tuple
        Each word with its first frame and the frame after its last.
    posterior : float | None
        The exit score of that name; None without a beam.
    """

    text: str
    spans: list[tuple[str, int, int]]
    posterior: float | None = None


class GreedyCTC:
    """Best token of every frame, repetitions merged, blanks removed.

    Arguments
    ---------
    tokenizer : Tokenizer
        Turns token indices into text.
    blank_index : int
        Index of the CTC blank.

    Example
    -------
    >>> class Letters:
    ...     vocab_size, vocab_list = 3, ["<unk>", "▁a", "b"]
    ...     def decode(self, ids):
    ...         return "".join(self.vocab_list[i] for i in ids).replace("▁", " ").strip()
    >>> log_probs = torch.eye(3)[[1, 1, 0, 2, 1]].log().unsqueeze(0)
    >>> GreedyCTC(Letters())(log_probs, torch.tensor([4]))
    ['ab']
    """

    def __init__(self, tokenizer: Tokenizer, blank_index: int = 0):
        self.name = "greedy"
        self.tokenizer = tokenizer
        self.blank_index = blank_index

    def __call__(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """log_probs (batch, frames, vocab), lengths (batch,) in frames -> one text each."""
        tokens = [filter_ctc_output(path, blank_id=self.blank_index) for path in self._best_paths(log_probs, lengths)]
        return [self.tokenizer.decode(ids) if ids else "" for ids in tokens]

    def decode(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[Decoded]:
        """Texts with the frames of their words."""
        paths = self._best_paths(log_probs, lengths)
        spans = [greedy_spans(path, self.tokenizer, self.blank_index) for path in paths]
        return [Decoded(*pair) for pair in zip(self(log_probs, lengths), spans, strict=True)]

    def _best_paths(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        _check_inputs(log_probs, lengths, self.tokenizer.vocab_size)
        best = log_probs.argmax(dim=-1).tolist()  # one copy from the device for the whole batch
        return [frames[:length] for frames, length in zip(best, lengths.tolist(), strict=True)]


class BeamCTC:
    """CTC beam search, with a KenLM n-gram over words if one is given.

    Arguments
    ---------
    tokenizer : Tokenizer
        Its pieces are the vocabulary of the search.
    blank_index : int
        Index of the CTC blank.
    beam_size : int
        Hypotheses kept after each frame; more = slower, rarely better above 50 without an LM.
    kenlm_model_path : str or Path, optional
        ARPA or KenLM binary over words; None searches without a language model.
    alpha : float
        Weight of the language model.
    beta : float
        Bonus per word; more = longer texts.
    beam_prune_logp : float
        Hypotheses this far below the best one are dropped.
    token_prune_min_logp : float
        Tokens below this log-probability are not tried in a frame, unless they are its best.

    Raises
    ------
    ValueError
        If ``beam_size`` is below 1, or the language model is missing or unreadable.
    ImportError
        If a language model is asked for and KenLM is not installed.

    Example
    -------
    >>> class Letters:
    ...     vocab_size, vocab_list = 3, ["<unk>", "▁a", "b"]
    >>> probs = torch.tensor([[[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]]])
    >>> BeamCTC(Letters(), beam_size=4)(probs.log(), torch.tensor([2]))
    ['ab']
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        blank_index: int = 0,
        *,
        beam_size: int = 50,
        kenlm_model_path: str | Path | None = None,
        alpha: float = 0.5,
        beta: float = 1.5,
        beam_prune_logp: float = -10.0,
        token_prune_min_logp: float = -5.0,
    ):
        if beam_size < 1:
            raise ValueError(f"beam_size {beam_size} keeps no hypothesis; choose 1 or more")
        if kenlm_model_path is not None:
            _check_kenlm(Path(kenlm_model_path))
        self.name = f"beam {beam_size}" + (f", {Path(kenlm_model_path).name}" if kenlm_model_path else "")
        self.vocab_size = tokenizer.vocab_size
        options = {
            "alpha": alpha,
            "beta": beta,
            "beam_size": beam_size,
            "beam_prune_logp": beam_prune_logp,
            "token_prune_min_logp": token_prune_min_logp,
        }
        vocab_list = ["" if p in _CONTROL_PIECES else p for p in tokenizer.vocab_list]
        try:
            self.searcher = CTCBeamSearcher(
                blank_index=blank_index,
                vocab_list=vocab_list,
                kenlm_model_path=None if kenlm_model_path is None else str(kenlm_model_path),
                topk=min(beam_size, N_BEST),
                **options,
            )
        except OSError as error:  # KenLM's own: the file is no model, or one of single words
            raise ValueError(
                f"cannot read language model {kenlm_model_path}; give an ARPA or KenLM binary of order 2 or more"
            ) from error

    def __call__(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """log_probs (batch, frames, vocab), lengths (batch,) in frames -> one text each."""
        return [one.text for one in self.decode(log_probs, lengths)]

    def decode(self, log_probs: torch.Tensor, lengths: torch.Tensor) -> list[Decoded]:
        """Texts with the frames of their words, and their share of the probability of the n-best list.

        A share of exactly 1 means that a single hypothesis survived the pruning.
        """
        _check_inputs(log_probs, lengths, self.vocab_size)
        log_probs = log_probs.detach().float().cpu()
        n_best = [
            self.searcher(one[:length].unsqueeze(0))[0] for one, length in zip(log_probs, lengths.tolist(), strict=True)
        ]
        return [Decoded(found[0].text, _spans(found[0]), _share_of_first(found)) for found in n_best]


def _spans(hypothesis) -> list[tuple[str, int, int]]:
    return [(word, start, end) for word, (start, end) in hypothesis.text_frames]


def _share_of_first(n_best: list) -> float:
    scores = torch.tensor([one.lm_score for one in n_best], dtype=torch.float64)
    return float(scores.softmax(0)[0])


def _check_kenlm(path: Path) -> None:
    if find_spec("kenlm") is None or find_spec("pygtrie") is None:
        raise ImportError('a language model needs KenLM, not installed here: pip install "speechbrain_ee[lm]"')
    if not path.is_file():
        raise ValueError(f"language model {path} does not exist; give an ARPA or KenLM binary")


def _check_inputs(log_probs: torch.Tensor, lengths: torch.Tensor, vocab_size: int) -> None:
    if log_probs.dim() != 3 or log_probs.shape[-1] != vocab_size:
        raise ValueError(
            f"log_probs must be (batch, frames, {vocab_size}) for this tokenizer, got {tuple(log_probs.shape)}"
        )
    check_lengths(lengths, log_probs.shape[0])
