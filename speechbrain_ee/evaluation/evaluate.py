# SPDX-License-Identifier: Apache-2.0
"""Run one pass over a test set: hypothesis, errors, scores and cost of every utterance at every exit."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial as partial_function
from itertools import islice
from pathlib import Path

import torch
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from speechbrain_ee.code_version import code_version
from speechbrain_ee.corpora.batching import length_batches, padded_seconds, run_batch
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.recordings import audio_blocks, check_durations
from speechbrain_ee.errors import one_line
from speechbrain_ee.evaluation.partial_results import PartialResults, only_process
from speechbrain_ee.evaluation.tables import write_exits
from speechbrain_ee.files import size_and_time
from speechbrain_ee.inference.asr import CHUNKS_AT_ONCE, EarlyExitASR
from speechbrain_ee.inference.ctc_scores import output_scores
from speechbrain_ee.lobes.cost import exit_macs, exit_parameters, machine
from speechbrain_ee.lobes.heads import ExitOutput
from speechbrain_ee.lobes.padding import pad_batch
from speechbrain_ee.lobes.state_dicts import modules_digest
from speechbrain_ee.model.folder import PARTS
from speechbrain_ee.policies import FixedExit
from speechbrain_ee.replay.utterances import write_utterances
from speechbrain_ee.text.metrics import word_errors

logger = get_logger(__name__)

LIBRARIES = ("torch", "speechbrain", "transformers", "soxr")  # scores depend on their versions


def evaluate(
    asr: EarlyExitASR,
    utterances: Sequence[Utterance],
    out_dir: str | Path,
    *,
    test_set: str,
    batch_seconds: float = 100.0,
    rtf_seconds: float = 20.0,
) -> dict:
    """Run every exit over a test set once, and write utterances, tables and plots.

    Each batch is written to ``utterances.part-<key>.jsonl`` when it is done. After an interruption, the same call
    computes only the missing utterances and those that have changed. The key is a hash of model, decoding and code. A
    batch that fails is run again one utterance at a time. An utterance that fails by itself is left out and listed in
    ``missing`` of ``exits.json`` with the reason; the same call computes it once it is repaired.

    Arguments
    ---------
    asr : EarlyExitASR
        The model; its ``decoder`` turns the output of an exit into text.
    utterances : Sequence[Utterance]
        The test set; durations in the headers of the files take precedence.
    out_dir : str | Path
        Folder for ``utterances.jsonl``, ``exits.json``, ``exits.csv``, ``exits.png`` and ``policies.json``.
    test_set : str
        Name of the test set.
    batch_seconds : float
        Seconds of audio in a batch, padding included.
    rtf_seconds : float
        Seconds of audio for the measurement of the real-time factor; 0 skips it.

    Returns
    -------
    dict
        The contents of ``exits.json``.

    Raises
    ------
    ValueError
        At the start, if an audio file is missing, broken or empty, no reference has a word, or another process is
        evaluating into the folder. At the end, if no utterance could be evaluated.
    """
    if not any(utterance.text.split() for utterance in utterances):
        raise ValueError(f"{test_set}: no reference has a word: give a manifest with texts")
    utterances = check_durations(utterances)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    with only_process(out_dir):
        partial = PartialResults(out_dir, _key(asr))
        lines, failed = _all_lines(asr, utterances, partial, test_set=test_set, batch_seconds=batch_seconds)
        evaluated = [utterance for utterance in utterances if utterance.id in lines]
        if not evaluated:
            raise ValueError(f"{test_set}: no utterance could be evaluated ({_first(failed)})")
        ordered = [lines[utterance.id] for utterance in evaluated]
        write_utterances(out_dir / "utterances.jsonl", ordered)
        rtf = real_time_factors(asr, evaluated, seconds=rtf_seconds) if rtf_seconds else None
        exits = write_exits(
            out_dir,
            ordered,
            test_set=test_set,
            decoding=asr.decoder.name,
            params=exit_parameters(asr.mods.encoder, asr.mods.heads),
            rtf=rtf and rtf["rtf"],
            rtf_machine=rtf and rtf["machine"],
            model=asr.fingerprint,
            missing={identity: one_line(error) for identity, error in failed.items()},
        )
        if not failed:
            partial.remove()
    return exits


def _key(asr: EarlyExitASR) -> str:
    """Hash all that the results depend on, except the utterances: model, decoding, precision and code."""
    model = asr.fingerprint or modules_digest([asr.mods[name] for name in PARTS])
    code = code_version("**/*.py", libraries=LIBRARIES)
    facts = json.dumps([model, _plain(vars(asr.decoder)), asr.decoder.name, str(asr.precision), code])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _plain(settings: Mapping) -> dict:
    """Return the numbers, texts and files among a decoder's settings, with size and time of each file."""
    plain = {name: value for name, value in settings.items() if isinstance(value, (int, float, str, Path))}
    return {name: [str(value), *size_and_time(str(value))] for name, value in plain.items()}


def _all_lines(
    asr: EarlyExitASR, utterances: Sequence[Utterance], partial: PartialResults, *, test_set: str, batch_seconds: float
) -> tuple[dict[str, dict], dict[str, Exception]]:
    """Return lines of ``utterances.jsonl`` by id, and the errors of the utterances that failed."""
    lines = partial.of(utterances)
    failed: dict[str, Exception] = {}
    if lines:
        logger.warning(
            "%s: %d of %d utterances are already in %s: running only the others",
            *(test_set, len(lines), len(utterances), partial.path),
        )
    seconds = padded_seconds([one.duration for one in utterances], asr.mods.features.min_seconds)
    with partial, tqdm(total=len(utterances), desc=f"evaluate {test_set}", delay=2, leave=False) as bar:
        for indices in length_batches(seconds, batch_seconds):
            batch = [utterances[index] for index in indices]
            # A batch is always run as a whole, so that an interruption does not change scores.
            if any(one.id not in lines for one in batch):
                results = run_batch(partial_function(evaluate_batch, asr), batch)
                failed |= {one.id: line for one, line in zip(batch, results, strict=True) if _is_error(line)}
                done = [pair for pair in zip(batch, results, strict=True) if not _is_error(pair[1])]
                partial.append([one for one, _ in done], [line for _, line in done])
                lines |= {one.id: line for one, line in done}
            bar.update(len(batch))
    return {identity: line for identity, line in lines.items() if identity not in failed}, failed


def _is_error(result: dict | Exception) -> bool:
    return isinstance(result, Exception)


def _first(failed: Mapping[str, Exception]) -> str:
    identity, error = next(iter(failed.items()))
    return f"first: {identity}: {one_line(error)}"


@torch.inference_mode()
def evaluate_batch(asr: EarlyExitASR, batch: Sequence[Utterance]) -> list[dict]:
    """Return lines of ``utterances.jsonl`` for one batch; long recordings are cut like in ``transcribe_file``."""
    parts = ((row, part) for row, one in enumerate(batch) for part in asr.read_parts(one.audio_filepath))
    exits_of_parts: list[list[list[dict]]] = [[] for _ in batch]
    step = max(len(batch), CHUNKS_AT_ONCE)
    while together := list(islice(parts, step)):
        rows, waveforms = zip(*together, strict=True)
        for row, exits in zip(rows, _run_all_exits(asr, waveforms), strict=True):
            exits_of_parts[row].append(exits)
    return [_line(asr, one, exits) for one, exits in zip(batch, exits_of_parts, strict=True)]


def _run_all_exits(asr: EarlyExitASR, waveforms: Sequence[torch.Tensor]) -> list[list[dict]]:
    """Return hypothesis, confidences, scores, MACs and frames, by waveform and exit."""
    with asr.inference_ctx:
        feats, num_frames = asr.mods.features(*pad_batch(waveforms))
        states, lengths = asr.mods.encoder(feats, num_frames)
        outputs = asr.mods.heads(states, lengths)
        columns = [_exit_rows(asr, *pair) for pair in zip([None, *outputs], outputs, strict=False)]
    macs = [exit_macs(asr.mods.encoder, asr.mods.heads, frames) for frames in num_frames.tolist()]
    static_macs = [exit_macs(asr.mods.encoder, asr.mods.heads, frames, heads_run=1) for frames in num_frames.tolist()]
    return [
        [_with_costs(column[row], macs[row][index], static_macs[row][index]) for index, column in enumerate(columns)]
        for row in range(len(waveforms))
    ]


def _with_costs(exit_row: dict, macs: int, static_macs: int) -> dict:
    """Add the MACs up to an exit, with all heads and with its own head only; both include its decoder."""
    decoder = exit_row["decoder_macs"]
    return exit_row | {"macs": macs + decoder, "static_macs": static_macs + decoder}


def _exit_rows(asr: EarlyExitASR, previous: ExitOutput | None, output: ExitOutput) -> list[dict]:
    scores = output_scores(output, previous)
    return [
        {
            "hypothesis": decoded.text,
            "word_confidence": [round(span.confidence, 4) for span in decoded.spans],
            "scores": own | decoded.scores,
            "frames": frames,
            "decoder_macs": decoded.macs,
            "ctc_hypothesis": decoded.ctc_text,
        }
        for own, decoded, frames in zip(scores, asr.decoder.decode(output), output.lengths.tolist(), strict=True)
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


def _line(asr: EarlyExitASR, utterance: Utterance, parts: Sequence[Sequence[dict]]) -> dict:
    exits = [_join(at_exit) for at_exit in zip(*parts, strict=True)]
    return {
        "id": utterance.id,
        "audio_filepath": str(utterance.audio_filepath),
        "speaker": utterance.speaker,
        "duration": utterance.duration,
        "reference": utterance.text,
        "num_words": len(utterance.text.split()),
        **({"parts": len(parts)} if len(parts) > 1 else {}),  # each part stops by itself when transcribed
        "exits": [_exit_of_line(layer, one, utterance.text) for layer, one in zip(asr.exit_layers, exits, strict=True)],
    }


def _exit_of_line(layer: int, one: dict, reference: str) -> dict:
    exit = {
        "layer": layer,
        "hypothesis": one["hypothesis"],
        "errors": word_errors(reference, one["hypothesis"]),
        "scores": one["scores"],
        "macs": one["macs"],
        "static_macs": one["static_macs"],
        "word_confidence": one["word_confidence"],
    }
    if one["ctc_hypothesis"] is not None:  # the text is from an attention decoder
        ctc = {"hypothesis": one["ctc_hypothesis"], "errors": word_errors(reference, one["ctc_hypothesis"])}
        exit |= {"decoder_macs": one["decoder_macs"], "ctc": ctc}
    return exit


def _beginning(path: Path, rate: int, num_samples: int) -> torch.Tensor:
    """Read the first samples of a recording."""
    blocks, found = [], 0
    for block in audio_blocks(path, rate):
        blocks.append(block)
        found += len(block)
        if found >= num_samples:
            break
    return torch.cat(blocks)[:num_samples]


def real_time_factors(asr: EarlyExitASR, utterances: Sequence[Utterance], *, seconds: float, num_runs: int = 3) -> dict:
    """Measure the real-time factor of each static exit, on one thread and one utterance at a time.

    Arguments
    ---------
    asr : EarlyExitASR
        The model.
    utterances : Sequence[Utterance]
        The first ones are used; the last of them is cut.
    seconds : float
        Seconds of audio to run.
    num_runs : int
        Number of runs of every exit, interleaved with the other exits; the fastest counts.

    Returns
    -------
    dict
        ``rtf``: seconds of computation per second of audio, by exit, for features, encoder, head and decoding, without
        the reading of files. ``machine``: CPU, threads and GEMM rate, measured by the same process.
    """
    rate = asr.mods.features.sample_rate
    waveforms, missing = [], round(seconds * rate)
    for utterance in utterances:
        if missing <= 0:
            break
        waveforms += asr.cut(_beginning(utterance.audio_filepath, rate, missing))
        missing = round(seconds * rate) - sum(map(len, waveforms))
    total = sum(map(len, waveforms)) / rate
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = [float("inf")] * len(asr.exit_layers)
        runs = [*enumerate(asr.exit_layers)] * num_runs
        for index, layer in tqdm(runs, desc="real-time factor", delay=2, leave=False):
            begin = time.perf_counter()
            for waveform in waveforms:
                asr.transcribe_waveforms([waveform], policy=FixedExit(layer))
            best[index] = min(best[index], time.perf_counter() - begin)
        return {"rtf": [value / total for value in best], "machine": machine() | {"device": asr.device}}
    finally:
        torch.set_num_threads(threads)
