# SPDX-License-Identifier: Apache-2.0
"""Run one pass over a test set: hypothesis, errors, scores and cost of every utterance at every exit."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from ee_runtime.files import make_folder
from ee_runtime.text.error_units import ErrorUnit, counted_in
from ee_runtime.transcriber import Transcriber
from speechbrain_ee.bulk.engines import Engine
from speechbrain_ee.corpora.batching import length_batches, padded_seconds
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.recordings import check_durations
from speechbrain_ee.evaluation.batch import EvaluateBatch, EvaluateWork, as_task
from speechbrain_ee.evaluation.partial_results import PartialResults
from speechbrain_ee.evaluation.real_time_factor import real_time_factors
from speechbrain_ee.evaluation.tables import write_exits
from speechbrain_ee.files import only_process
from speechbrain_ee.inference.settings import result_settings
from speechbrain_ee.lobes.state_dicts import modules_digest
from speechbrain_ee.model.folder import PARTS
from speechbrain_ee.replay.utterances import read_utterances, write_utterances

logger = get_logger(__name__)

LOCK = ".evaluating.lock"


def evaluate(
    asr: Transcriber,
    utterances: Sequence[Utterance],
    out_dir: str | Path,
    *,
    test_set: str,
    error_unit: ErrorUnit | None = None,
    batch_seconds: float = 100.0,
    rtf_seconds: float = 20.0,
    engine: Engine | None = None,
    work: EvaluateWork | None = None,
) -> dict:
    """Run every exit over a test set once, and write utterances, tables and plots.

    Each batch is written to ``utterances.part-<key>.jsonl`` when it is done. After an interruption, the same call
    computes only the missing utterances and those that have changed. The key is a hash of model, decoding and code. A
    batch that fails is run again one utterance at a time. An utterance that fails by itself is left out and listed in
    ``missing`` of ``exits.json`` with the reason; the same call computes it once it is repaired.

    Arguments
    ---------
    asr : Transcriber
        The model; its ``decoder`` turns the output of an exit into text.
    utterances : Sequence[Utterance]
        The test set; durations in the headers of the files take precedence.
    out_dir : str | Path
        Folder for ``utterances.jsonl``, ``exits.json``, ``exits.csv``, ``exits.png`` and ``policies.json``.
    test_set : str
        Name of the test set.
    error_unit : ErrorUnit, optional
        What to count errors in; None means that of the model.
    batch_seconds : float
        Seconds of audio in a batch, padding included.
    rtf_seconds : float
        Seconds of audio for the measurement of the real-time factor; 0 skips it.
    engine : Engine | None
        What runs the batches; None means this process.
    work : EvaluateWork | None
        Needed by an engine: how other processes open the same model and decoder.

    Returns
    -------
    dict
        The contents of ``exits.json``.

    Raises
    ------
    ValueError
        At the start, if an audio file is missing, broken or empty, no reference has a word, the folder has results of
        other utterances, or another process is evaluating into it. At the end, if no utterance could be evaluated.
    """
    if not any(utterance.text.split() for utterance in utterances):
        raise ValueError(f"{test_set}: no reference has a word: give a manifest with texts")
    utterances = check_durations(utterances)
    out_dir = Path(out_dir)
    make_folder(out_dir)
    _check_earlier(out_dir, utterances)
    with only_process(out_dir / LOCK, doing=f"evaluating into {out_dir}"):
        partial = PartialResults(out_dir, _key(asr))
        run = _here(asr) if engine is None else _with(engine, work.expecting(result_settings(asr)))
        seconds = padded_seconds([one.duration for one in utterances], asr.min_seconds)
        batches = [[utterances[index] for index in batch] for batch in length_batches(seconds, batch_seconds)]
        lines, failed = _all_lines(run, batches, partial, test_set=test_set)
        evaluated = [utterance for utterance in utterances if utterance.id in lines]
        if not evaluated:
            raise ValueError(f"{test_set}: no utterance could be evaluated ({_first(failed)})")
        ordered = [lines[utterance.id] for utterance in evaluated]
        write_utterances(out_dir / "utterances.jsonl", ordered)
        rtf = real_time_factors(asr, evaluated, seconds=rtf_seconds) if rtf_seconds else None
        exits = write_exits(
            out_dir,
            counted_in(ordered, error_unit or asr.error_unit),
            test_set=test_set,
            decoding=asr.decoder.name,
            params=asr.exit_parameters(),
            rtf=rtf and rtf["rtf"],
            rtf_machine=rtf and rtf["machine"],
            model=asr.fingerprint,
            missing=failed,
        )
        if not failed:
            partial.remove()
    return exits


def _check_earlier(out_dir: Path, utterances: Sequence[Utterance]) -> None:
    """Refuse to replace the results of another set; warn if utterances of the earlier results are left out."""
    file = out_dir / "utterances.jsonl"
    if not file.exists():
        return
    earlier = {line["id"]: line for line in read_utterances(file)}
    if gone := earlier.keys() - {one.id for one in utterances}:
        paths = {str(one.audio_filepath) for one in utterances}
        if len(gone) == len(earlier) and not any(one.get("audio_filepath") in paths for one in earlier.values()):
            raise ValueError(
                f"{out_dir} has results of another set (its first utterance: {next(iter(earlier))}): "
                "rename the manifest, give another folder, or remove this one"
            )
        logger.warning(
            "%s: %d of %d utterances with results are not in this manifest; their results are removed",
            *(out_dir, len(gone), len(earlier)),
        )


def _key(asr: Transcriber) -> str:
    """Hash all that the results depend on, except the utterances: model, decoding, precision and code."""
    settings = result_settings(asr)
    settings["model"] = asr.fingerprint or modules_digest([asr.mods[name] for name in PARTS])
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


Run = Callable[[Sequence], Iterator[tuple[int, list[dict]]]]


def _here(asr: Transcriber) -> Run:
    function = EvaluateBatch(asr)
    return lambda tasks: ((position, function(task)) for position, task in enumerate(tasks))


def _with(engine: Engine, work: EvaluateWork) -> Run:
    return lambda tasks: engine(work, tasks)


def _all_lines(
    run: Run, batches: Sequence[Sequence[Utterance]], partial: PartialResults, *, test_set: str
) -> tuple[dict[str, dict], dict[str, str]]:
    """Return lines of ``utterances.jsonl`` by id, and the errors of the utterances that failed."""
    utterances = [one for batch in batches for one in batch]
    lines = partial.of(utterances)
    failed: dict[str, str] = {}
    if lines:
        logger.warning(
            "%s: %d of %d utterances are already in %s: running only the others",
            *(test_set, len(lines), len(utterances), partial.path),
        )
    # A batch is always run as a whole, so that an interruption does not change scores.
    missing = [batch for batch in batches if any(one.id not in lines for one in batch)]
    done = len(utterances) - sum(map(len, missing))
    with partial, tqdm(total=len(utterances), initial=done, desc=f"evaluate {test_set}", delay=2, leave=False) as bar:
        for position, results in run([as_task(batch) for batch in missing]):
            pairs = list(zip(missing[position], results, strict=True))
            failed |= {one.id: line["error"] for one, line in pairs if "error" in line}
            evaluated = {one: line for one, line in pairs if "error" not in line}
            partial.append(list(evaluated), list(evaluated.values()))
            lines |= {one.id: line for one, line in evaluated.items()}
            bar.update(len(pairs))
    return {identity: line for identity, line in lines.items() if identity not in failed}, failed


def _first(failed: Mapping[str, str]) -> str:
    identity, error = next(iter(failed.items()))
    return f"first: {identity}: {error}"
