# SPDX-License-Identifier: Apache-2.0
"""The loop that runs the encoder segment by segment and stops each utterance of a batch when the policy says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ee_runtime.backend import EncoderRun, ExitOutput
from ee_runtime.decoders.base import Decoded, Decoder
from ee_runtime.policies import Look, Policy
from ee_runtime.policies.scores import SCORES


@dataclass
class UtteranceProgress:
    """Progress of one utterance through the encoder.

    Arguments
    ---------
    position : int
        Index in the batch of the call.
    num_frames : int
        Feature frames.
    facts : dict
        Facts about the utterance for the policy: ``duration`` in seconds. For deadlines also ``padded_duration``, the
        duration or, if larger, the length to which features are padded; ``batch_duration``, the seconds of audio in the
        batch of the next segment, padding included; and ``call_duration``, the seconds of all utterances of the call.
    macs : list of int
        Cost up to each exit, heads included.
    started : float
        Clock time of the call.
    clock : callable
        Returns seconds.
    scores : list of dict
        Scores of each exit whose head was run.
    decoded : list
        Text of each of these exits; None if it is not decoded.
    exit_index : int | None
        Exit at which the utterance stopped.
    """

    position: int
    num_frames: int
    facts: dict[str, float]
    macs: list[int]
    started: float
    clock: Callable[[], float]
    scores: list[dict[str, float]] = field(default_factory=list)
    decoded: list[Decoded | None] = field(default_factory=list)
    exit_index: int | None = None

    def look(self, exit_index: int, exit_layers: tuple[int, ...]) -> Look:
        """Return the inputs of the policy at an exit."""
        return Look(
            exit_index=exit_index,
            exit_layers=exit_layers,
            scores=self.scores,
            macs=self.macs,
            facts=self.facts,
            clock=self.clock,
            started=self.started,
        )


class Stopped(NamedTuple):
    """Utterances that stopped at the same exit, and the output of that exit for them."""

    utterances: list[UtteranceProgress]
    output: ExitOutput

    def decode(self, decoder: Decoder) -> None:
        """Decode the utterances, unless a score has required their texts already."""
        if self.utterances[0].decoded[-1] is None:
            for utterance, decoded in zip(self.utterances, decoder.decode(self.output), strict=True):
                utterance.decoded[-1] = decoded


def run_segments(
    run: EncoderRun, *, utterances: list[UtteranceProgress], policy: Policy, decoder: Decoder
) -> list[Stopped]:
    """Run segment after segment until every utterance has stopped; stopped utterances leave the batch.

    Arguments
    ---------
    run : EncoderRun
        The encoder with the features of the batch; segments above the deepest exit taken are not run. A head is run at
        the last exit, at exits for which the policy needs it, and at an exit at which the policy cuts an utterance off.
    utterances : list of UtteranceProgress
        One per utterance; scores, texts and the exit taken are stored there.
    policy : Policy
        Decides when an utterance stops.
    decoder : Decoder
        Computes the scores that need a text.

    Returns
    -------
    list of Stopped
        The utterances by exit.
    """
    exit_layers, previous, stopped = run.exit_layers, None, []
    for exit_index in range(len(exit_layers)):
        is_last = exit_index == len(exit_layers) - 1
        _set_batch_duration(utterances)
        run.advance()
        if is_last or policy.needs_head(exit_index, exit_layers):
            output = run.output()
            _add_scores(run, utterances, output, previous, policy, decoder)
            previous = output
            looks = [utterance.look(exit_index, exit_layers) for utterance in utterances]
            rows = [row for row, look in enumerate(looks) if policy.stop(look) or is_last]
            output = output.keep(rows) if rows else None
        elif rows := [row for row, one in enumerate(utterances) if policy.cuts(one.look(exit_index, exit_layers))]:
            output = run.output(rows)
            before = None if previous is None else previous.keep(rows)
            _add_scores(run, [utterances[row] for row in rows], output, before, policy, decoder)
        if rows:
            stopped.append(Stopped([utterances[row] for row in rows], output))
            for row in rows:
                utterances[row].exit_index = exit_index
            remaining = [row for row, one in enumerate(utterances) if one.exit_index is None]
            if not remaining:
                break
            run.keep(remaining)
            previous = None if previous is None else previous.keep(remaining)
            utterances = [utterances[row] for row in remaining]
    return stopped


def _set_batch_duration(utterances: Sequence[UtteranceProgress]) -> None:
    padded = len(utterances) * max(one.facts["padded_duration"] for one in utterances)
    for utterance in utterances:
        utterance.facts["batch_duration"] = padded


def _add_scores(
    run: EncoderRun,
    utterances: Sequence[UtteranceProgress],
    output: ExitOutput,
    previous: ExitOutput | None,
    policy: Policy,
    decoder: Decoder,
) -> None:
    """Compute the scores that the policy needs, and no others; decode only if one of them needs a text."""
    from_ctc = [name for name in policy.score_names if not SCORES[name].from_decoder]
    from_text = [name for name in policy.score_names if SCORES[name].from_decoder]
    texts = decoder.decode(output) if from_text else [None] * len(utterances)
    for utterance, scores, decoded in zip(utterances, run.scores(output, previous, from_ctc), texts, strict=True):
        utterance.scores.append(scores | {name: _score_of_text(name, decoded, decoder) for name in from_text})
        utterance.decoded.append(decoded)


def _score_of_text(name: str, decoded: Decoded, decoder: Decoder) -> float:
    if name not in decoded.scores:
        raise ValueError(
            f"the exit score {name!r} comes from {SCORES[name].from_decoder}, and the decoder is {decoder.name}: set "
            "its attribute decoder to one that computes it"
        )
    return decoded.scores[name]
