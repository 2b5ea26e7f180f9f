# SPDX-License-Identifier: Apache-2.0
"""Read yaml files that were written for earlier versions of this package."""

import inspect
import re
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TextIO

from ee_runtime.special_tokens import BLANK_INDEX

# What a yaml may refer to: old names in this package, and new names.
MOVED = {
    "checkpoints": "speechbrain_ee.training.checkpoints",
    "corpora.synthetic.prepare": "speechbrain_ee.corpora.synthetic.corpus.prepare",
    "decoding.BeamAttention": "speechbrain_ee.decoders.attention.BeamAttention",
    "decoding.BeamCTC": "speechbrain_ee.decoders.ctc.BeamCTC",
    "decoding.GreedyAttention": "ee_runtime.decoders.attention.GreedyAttention",
    "decoders.attention.GreedyAttention": "ee_runtime.decoders.attention.GreedyAttention",
    "decoding.GreedyCTC": "ee_runtime.decoders.greedy.GreedyCTC",
    "decoders.ctc.GreedyCTC": "ee_runtime.decoders.greedy.GreedyCTC",
    "decoding.LexiconCTC": "speechbrain_ee.decoders.lexicon.LexiconCTC",
    "decoding.RescoreAttention": "speechbrain_ee.decoders.attention.RescoreAttention",
    "freezing": "speechbrain_ee.training.freezing",
    "language_model": "speechbrain_ee.text.language_model",
    "lobes.sources": "speechbrain_ee.lobes.pretrained.sources",
    "losses": "speechbrain_ee.training.losses",
    "rng": "speechbrain_ee.training.rng",
    "schedulers": "speechbrain_ee.training.schedulers",
    "train_logs": "speechbrain_ee.training.logs",
}
MOVED_NAME = re.compile(rf"\bspeechbrain_ee\.({'|'.join(map(re.escape, MOVED))})\b")

# Settings that were removed, and the value that is equivalent to leaving them out.
REMOVED = {"blank_index": BLANK_INDEX}


def open_yaml(path: str | Path) -> TextIO:
    """Open a yaml file and replace old module names by the current ones.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("rng: !new:speechbrain_ee.rng.RNGState")
    >>> open_yaml(path).read()
    'rng: !new:speechbrain_ee.training.rng.RNGState'
    """
    text = Path(path).read_text("utf-8")
    stream = StringIO(MOVED_NAME.sub(lambda found: MOVED[found[1]], text))
    stream.name = str(path)  # HyperPyYAML resolves included files relative to it
    return stream


def in_todays_form(hparams: dict, path: str) -> dict:
    """Convert the hyperparameters of an earlier version: remove arguments that no longer exist, rename keys."""
    if "decoder" in hparams and "valid_decoder" not in hparams:
        hparams["valid_decoder"] = hparams.pop("decoder")
    blanks = [hparams.get("blank_index"), getattr(hparams.get("loss"), "blank_index", None)]
    blanks.append(_take_out(hparams, "valid_decoder", "blank_index"))
    if others := [blank for blank in blanks if blank not in (None, BLANK_INDEX)]:
        raise ValueError(
            f"{path}: blank_index is {others[0]}, but the tokenizer's blank is {BLANK_INDEX}: remove blank_index"
        )
    if (lr := _take_out(hparams, "lr_scheduler", "lr")) is not None:
        hparams["opt_class"] = partial(
            hparams["opt_class"], lr=lr
        )  # the peak learning rate is now set in the optimizer
    return hparams


def _take_out(hparams: dict, name: str, keyword: str) -> object:
    """Remove a keyword that a callable of the yaml no longer takes, and return its value."""
    made = hparams.get(name)
    if not isinstance(made, partial) or keyword not in made.keywords:
        return None
    taken = inspect.signature(made.func).parameters.values()
    if any(one.name == keyword or one.kind is one.VAR_KEYWORD for one in taken):
        return None
    rest = {key: value for key, value in made.keywords.items() if key != keyword}
    hparams[name] = partial(made.func, *made.args, **rest)
    return made.keywords[keyword]
