# SPDX-License-Identifier: Apache-2.0
"""Run a segment, look, decide: the loop by which each utterance of a batch stops by itself."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from speechbrain_ee.decoders.base import Decoded
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.heads import CTCHeads, ExitOutput
from speechbrain_ee.policies import Look, Policy


@dataclass
class UtteranceProgress:
    """One utterance under way, and where it stopped.

    Arguments
    ---------
    num_frames : int
        Feature frames.
    facts : dict
        What the policy may know of it, ``duration`` in seconds at least. For deadlines: ``padded_duration``, at least
        the seconds to which features are padded, ``batch_duration``, the seconds
        that the next segment is computed on, and ``call_duration``, those that texts are made of at the end.
    macs : list of int
        Cost up to each exit, heads included.
    started : float
        What the clock said when it came in.
    clock : callable
        Gives seconds.
    scores : list of dict
        One per exit whose head was run.
    decoded : list
        The text at each of these, where a score needed it, else None.
    exit_index : int | None
        Where it stopped.
    output : ExitOutput | None
        What that exit gave, a batch of one without padding.
    """

    num_frames: int
    facts: dict[str, float]
    macs: list[int]
    started: float
    clock: Callable[[], float] = time.perf_counter
    scores: list[dict[str, float]] = field(default_factory=list)
    decoded: list[Decoded | None] = field(default_factory=list)
    exit_index: int | None = None
    output: ExitOutput | None = None

    def look(self, exit_index: int, exit_layers: tuple[int, ...]) -> Look:
        """What the policy sees at an exit."""
        return Look(
            exit_index=exit_index,
            exit_layers=exit_layers,
            scores=self.scores,
            macs=self.macs,
            facts=self.facts,
            clock=self.clock,
            started=self.started,
        )


@torch.inference_mode()
def run_segments(
    encoder: ExitEncoder,
    heads: CTCHeads,
    feats: torch.Tensor,
    num_frames: torch.Tensor,
    *,
    runs: list[UtteranceProgress],
    policy: Policy,
    score: Callable,
) -> None:
    """Run a segment, look, decide, until every utterance has stopped; what has stopped leaves the batch.

    Arguments
    ---------
    encoder : ExitEncoder
        Layers above the deepest exit taken are never called.
    heads : CTCHeads
        One per exit; only those that the policy needs are run, and where it cuts an utterance off.
    feats : torch.Tensor
        (batch, frames, n_mels).
    num_frames : torch.Tensor
        (batch,) valid frames, integers.
    runs : list of UtteranceProgress
        One per utterance; where each stopped is written there.
    policy : Policy
        When to stop.
    score : callable
        ``score(output, previous)`` gives a dict of scores, and a text or None, per utterance; ``previous`` is what the
        last head that was run gave for these utterances, None at the first.
    """
    exit_layers = encoder.exit_layers
    state, previous = encoder.start(feats, num_frames), None
    for exit_index in range(len(exit_layers)):
        is_last = exit_index == len(exit_layers) - 1
        _tell_the_batch(runs)
        state, exit_state = encoder.advance(state)
        if is_last or policy.needs_head(exit_index, exit_layers):
            previous = _look_at_all(heads.head(exit_index, exit_state, state.lengths), previous, runs, score)
            for row, run in enumerate(runs):
                if policy.stop(run.look(exit_index, exit_layers)) or is_last:
                    run.exit_index, run.output = exit_index, previous.row(row)
        elif cut := [row for row, run in enumerate(runs) if policy.cuts(run.look(exit_index, exit_layers))]:
            rows = torch.tensor(cut, device=feats.device)
            output = heads.head(exit_index, exit_state[rows], state.lengths[rows])
            stopped = [runs[row] for row in cut]
            _look_at_all(output, None if previous is None else previous.keep(rows), stopped, score)
            for row, run in enumerate(stopped):
                run.exit_index, run.output = exit_index, output.row(row)
        go_on = [row for row, run in enumerate(runs) if run.exit_index is None]
        if not go_on:
            return
        if len(go_on) < len(runs):
            kept = torch.tensor(go_on, device=feats.device)
            state, previous = encoder.keep(state, kept), None if previous is None else previous.keep(kept)
            runs = [runs[row] for row in go_on]


def _look_at_all(
    output: ExitOutput, previous: ExitOutput | None, runs: Sequence[UtteranceProgress], score: Callable
) -> ExitOutput:
    """Note each utterance's scores, and texts where a score needs them; gives the output back."""
    for run, (scores, decoded) in zip(runs, score(output, previous), strict=True):
        run.scores.append(scores)
        run.decoded.append(decoded)
    return output


def _tell_the_batch(runs: list[UtteranceProgress]) -> None:
    """Seconds of audio that the next segment is computed on, padding included: what a deadline goes by."""
    padded = len(runs) * max(run.facts.get("padded_duration", run.facts["duration"]) for run in runs)
    for run in runs:
        run.facts["batch_duration"] = padded
