# SPDX-License-Identifier: Apache-2.0
"""Run every exit on one batch of utterances, and make its lines of ``utterances.jsonl``, in any process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from ee_runtime.backend import ExitOutput
from ee_runtime.errors import one_line
from ee_runtime.policies.scores import COMPUTED
from ee_runtime.transcriber import CHUNKS_AT_ONCE, Transcriber
from speechbrain_ee.bulk.model_options import ModelOptions
from speechbrain_ee.corpora.batching import run_batch
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.text.metrics import char_errors, num_chars, word_errors


@dataclass(frozen=True)
class EvaluateWork:
    """What another process needs to evaluate batches, see :class:`~speechbrain_ee.bulk.engines.Work`."""

    options: ModelOptions

    def expecting(self, settings: Mapping) -> "EvaluateWork":
        """See :meth:`~speechbrain_ee.bulk.model_options.ModelOptions.expecting`."""
        return replace(self, options=self.options.expecting(settings))

    def open(self) -> "EvaluateBatch":
        """Open the model."""
        return EvaluateBatch(self.options.open())


class EvaluateBatch:
    """Evaluates batches of utterances that :func:`as_task` has made plain."""

    def __init__(self, model: Transcriber):
        self.model = model

    def __call__(self, task: Sequence[dict]) -> list[dict]:
        """Return the line of each utterance, or ``{"error": message}`` if it fails by itself."""
        batch = [Utterance(**row | {"audio_filepath": Path(row["audio_filepath"])}) for row in task]
        results = run_batch(partial(evaluate_batch, self.model), batch)
        return [{"error": one_line(one)} if isinstance(one, Exception) else one for one in results]


def as_task(batch: Sequence[Utterance]) -> list[dict]:
    """Return a batch as plain values, which other processes take."""
    return [vars(one) | {"audio_filepath": str(one.audio_filepath)} for one in batch]


def evaluate_batch(model: Transcriber, batch: Sequence[Utterance]) -> list[dict]:
    """Return lines of ``utterances.jsonl`` for one batch; long recordings are cut like in ``transcribe_file``."""
    parts = (
        (row, part)
        for row, one in enumerate(batch)
        for part in model.read_parts(one.audio_filepath, excerpt=one.excerpt)
    )
    exits_of_parts: list[list[list[dict]]] = [[] for _ in batch]
    step = max(len(batch), CHUNKS_AT_ONCE)
    while together := list(islice(parts, step)):
        rows, waveforms = zip(*together, strict=True)
        for row, exits in zip(rows, _run_all_exits(model, waveforms), strict=True):
            exits_of_parts[row].append(exits)
    return [_line(model, one, exits) for one, exits in zip(batch, exits_of_parts, strict=True)]


def _run_all_exits(model: Transcriber, waveforms: Sequence[np.ndarray]) -> list[list[dict]]:
    """Return hypothesis, confidences, scores, MACs and frames, by waveform and exit."""
    columns, previous = [], None
    with model.inference():
        run, num_frames = model.start(model.make_batch(model.check_waveforms(waveforms)))
        for _ in run.exit_layers:
            run.advance()
            output = run.output()
            columns.append(_exit_rows(model, run.scores(output, previous, COMPUTED), output))
            previous = output
    macs = [model.exit_macs(frames) for frames in num_frames]
    static_macs = [model.exit_macs(frames, heads_run=1) for frames in num_frames]
    return [
        [_with_costs(column[row], macs[row][index], static_macs[row][index]) for index, column in enumerate(columns)]
        for row in range(len(waveforms))
    ]


def _with_costs(exit_row: dict, macs: int, static_macs: int) -> dict:
    """Add the MACs up to an exit, with all heads and with its own head only; both include its decoder."""
    decoder = exit_row["decoder_macs"]
    return exit_row | {"macs": macs + decoder, "static_macs": static_macs + decoder}


def _exit_rows(model: Transcriber, scores: Sequence[dict], output: ExitOutput) -> list[dict]:
    return [
        {
            "hypothesis": decoded.text,
            "word_confidence": [round(span.confidence, 4) for span in decoded.spans],
            "scores": own | decoded.scores,
            "frames": len(path),
            "decoder_macs": decoded.macs,
            "ctc_hypothesis": decoded.ctc_text,
        }
        for own, decoded, path in zip(scores, model.decoder.decode(output), output.best_paths, strict=True)
    ]


def _join(parts: Sequence[dict]) -> dict:
    """Join the parts of a recording at one exit: texts in order, scores weighted by frames, MACs summed."""
    if len(parts) == 1:
        return parts[0]
    frames = sum(part["frames"] for part in parts)
    return {
        "hypothesis": _join_texts(parts, "hypothesis"),
        "word_confidence": [confidence for part in parts for confidence in part["word_confidence"]],
        "scores": {
            name: sum(part["scores"][name] * part["frames"] for part in parts) / frames for name in parts[0]["scores"]
        }
        | {"confidence_min": min(part["scores"]["confidence_min"] for part in parts)},
        "ctc_hypothesis": None if parts[0]["ctc_hypothesis"] is None else _join_texts(parts, "ctc_hypothesis"),
    } | {name: sum(part[name] for part in parts) for name in ("macs", "static_macs", "decoder_macs")}


def _join_texts(parts: Sequence[dict], name: str) -> str:
    return " ".join(part[name] for part in parts if part[name])


def _line(model: Transcriber, utterance: Utterance, parts: Sequence[Sequence[dict]]) -> dict:
    exits = [_join(at_exit) for at_exit in zip(*parts, strict=True)]
    return {
        "id": utterance.id,
        "audio_filepath": str(utterance.audio_filepath),
        **({} if utterance.offset is None else {"offset": utterance.offset}),
        **({} if utterance.channel is None else {"channel_selector": utterance.channel}),
        "speaker": utterance.speaker,
        "duration": utterance.duration,
        "reference": utterance.text,
        "num_words": len(utterance.text.split()),
        "num_chars": num_chars(utterance.text),
        **({"parts": len(parts)} if len(parts) > 1 else {}),  # each part stops by itself when transcribed
        "exits": [
            _exit_of_line(layer, one, utterance.text) for layer, one in zip(model.exit_layers, exits, strict=True)
        ],
    }


def _errors(reference: str, hypothesis: str) -> dict:
    return {"errors": word_errors(reference, hypothesis), "char_errors": char_errors(reference, hypothesis)}


def _exit_of_line(layer: int, one: dict, reference: str) -> dict:
    exit = {
        "layer": layer,
        "hypothesis": one["hypothesis"],
        **_errors(reference, one["hypothesis"]),
        "scores": one["scores"],
        "macs": one["macs"],
        "static_macs": one["static_macs"],
        "word_confidence": one["word_confidence"],
    }
    if one["ctc_hypothesis"] is not None:  # the text is from an attention decoder
        ctc = {"hypothesis": one["ctc_hypothesis"], **_errors(reference, one["ctc_hypothesis"])}
        exit |= {"decoder_macs": one["decoder_macs"], "ctc": ctc}
    return exit
