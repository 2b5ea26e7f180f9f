# SPDX-License-Identifier: Apache-2.0
"""The model of the page: an export, its calibration and its cost, from any kind of model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ee_runtime import EarlyExitRuntime
from ee_runtime.calibration.file import CALIBRATION_FILE, read_calibration
from ee_runtime.decoders.make import greedy_class
from ee_runtime.export_folder import EXPORT_FILE, Export, GraphFile
from ee_runtime.policies import FixedExit, Policy, policy_from_dict
from ee_runtime.sessions import silence
from ee_runtime.text.error_units import unit_of
from speechbrain_ee.app.policies import check_policy
from speechbrain_ee.calibration.checks import check_evaluated
from speechbrain_ee.hub_download import ONNX_FOLDER, check_no_revision, download, may_be_on_hub
from speechbrain_ee.inference.open_model import is_export
from speechbrain_ee.replay.utterances import read_utterances

SAMPLE_RATES = (8000, 96000)  # at which every browser decodes and resamples audio
COSTED_S = 10.0  # seconds of audio for which shares of cost are shown


@dataclass(frozen=True)
class PageModel:
    """The model of a page.

    Arguments
    ---------
    export : Export
        The export whose graphs the page runs; they are checked.
    calibration : mapping | None
        Contents of its ``calibration.json``.
    policy : Policy | None
        The policy of the calibration; None without one.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` of the set on which the model was calibrated; empty if they are not there.
    exit_shares : list of float
        Share of the MACs of full depth that each static exit needs for 10 s of audio.
    notes : list of str
        What the user should know about the page of this model.
    """

    export: Export
    calibration: Mapping | None
    policy: Policy | None
    utterances: Sequence[Mapping]
    exit_shares: list[float]
    notes: list[str]

    @property
    def change(self) -> GraphFile | None:
        """Graph of the exit score that compares two exits; None if the policy does not read it."""
        is_read = self.policy is not None and "change" in self.policy.score_names
        return self.export.change if is_read else None

    @property
    def graphs(self) -> list[GraphFile]:
        """Graphs of the page; it has no attention decoder."""
        change = [] if self.change is None else [self.change]
        return [self.export.features, *self.export.segments, *self.export.exits, *change]


@contextmanager
def page_model(source: str | Path, revision: str | None = None) -> Iterator[PageModel]:
    """Open a model for the page; a model that is not an export is exported into a temporary folder first.

    Arguments
    ---------
    source : str or Path
        Export, run folder, model folder, bundle, or name on the Hub; the export of a bundle is used, if it has one.
    revision : str | None
        Branch, tag or commit on the Hub; None means the newest commit.

    Yields
    ------
    PageModel
        The model; its files exist until the context ends.

    Raises
    ------
    ValueError
        If the model cannot be exported, a file is broken, or the page cannot run its policy.
    """
    if may_be_on_hub(source):
        inside = download(str(source), [f"{ONNX_FOLDER}/*"], revision=revision) / ONNX_FOLDER
    else:
        check_no_revision(source, revision)
        inside = Path(source) / ONNX_FOLDER
    if is_export(inside):
        yield _checked(inside, Path(source))
    elif is_export(source):
        yield _checked(Path(source), Path(source))
    else:
        from speechbrain_ee.export.folder import export_folder  # imports torch

        with tempfile.TemporaryDirectory(prefix="speechbrain-ee-") as folder:
            lines = list(export_folder(source, folder, revision=revision))
            del lines  # about the temporary folder
            yield _checked(Path(folder), Path(source))


def _checked(folder: Path, evaluated: Path) -> PageModel:
    """Check everything in an export; evaluated sets are in another folder, if the export is temporary."""
    silence()
    runtime = EarlyExitRuntime(folder, policy=FixedExit(), decoding="ctc", threads=1)  # reads and checks all graphs
    export = runtime.export
    low, high = SAMPLE_RATES
    if not low <= export.sample_rate <= high:
        raise ValueError(
            f"{folder / EXPORT_FILE}: the sample rate is {export.sample_rate} Hz, and browsers convert audio to "
            f"{low} to {high} Hz only: train a model with such a rate"
        )
    calibration, policy = None, None
    path = folder / CALIBRATION_FILE
    if path.exists():
        calibration = read_calibration(path, export.model)
        policy = policy_from_dict(calibration["policy"])
        check_policy(policy, export.exit_layers, export.score_names)
    notes = [] if calibration else ["there is no calibration.json: the slider chooses a fixed exit"]
    if export.attention is not None:
        notes.append("the page decodes with the CTC heads only: texts of attention decoders can differ")
        if calibration is not None:  # its WER is that of other texts
            calibration = {name: value for name, value in calibration.items() if name not in ("fitted_on", "promise")}
    utterances = []
    try:
        utterances = _evaluated(evaluated, calibration, export)
    except (OSError, KeyError, ValueError) as error:
        notes.append(f"the slider has no costs and WERs: {error}")
    return PageModel(export, calibration, policy, utterances, _exit_shares(runtime), notes)


def _exit_shares(runtime: EarlyExitRuntime) -> list[float]:
    noise = np.random.default_rng(0).standard_normal(int(COSTED_S * runtime.sample_rate), dtype=np.float32) / 10
    _, (num_frames,) = runtime.start(runtime.make_batch([noise]))
    macs = runtime.exit_macs(num_frames, 1)
    return [one / macs[-1] for one in macs]


def _evaluated(folder: Path, calibration: Mapping | None, export: Export) -> list[dict]:
    """Read the utterances of the calibration set; empty if they are not there."""
    name = ((calibration or {}).get("fitted_on") or {}).get("test_set")
    path = folder / "eval" / str(name)
    if name is None or not (path / "utterances.jsonl").is_file():
        return []
    check_evaluated(path, export.model, greedy_class(has_attention=False).name)
    found = read_utterances(path / "utterances.jsonl", unit_of(calibration))
    layers = [exit["layer"] for exit in found[0]["exits"]] if found else []
    if layers != list(export.exit_layers):
        raise ValueError(f"{path} was evaluated with exits after layers {layers}: evaluate it again")
    return found
