# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee``. Results go to standard output, progress and notes to standard error."""

import io
import json
import logging
import math
import re
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_ee import __version__
from speechbrain_ee.audio import AudioError
from speechbrain_ee.errors import one_line_errors, print_error
from speechbrain_ee.files import printable
from speechbrain_ee.startup import prepare_process

logger = logging.getLogger(__name__)

PROGRAM = "speechbrain-ee"
app = typer.Typer(
    name=PROGRAM,
    help="Early-exit speech recognition.",
    epilog=f"Example: {PROGRAM} transcribe --model results/conformer_ee/1234 a.wav",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ModelOption = Annotated[str, typer.Option("--model", help="Run folder, bundle, or name on the HuggingFace Hub.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; the GPU where there is one.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; OMP_NUM_THREADS, or else the CPUs that this process may use.")
]


class Decoding(str, Enum):
    """Ways to turn what an exit gives into text."""

    greedy = "greedy"
    beam = "beam"
    lexicon = "lexicon"
    rescore = "rescore"
    ctc = "ctc"


BeamSizeOption = Annotated[
    int | None, typer.Option(help="Of a beam; 50 for CTC, 200 over a lexicon, 10 with attention.")
]
LMOption = Annotated[
    Path | None,
    typer.Option(
        help="KenLM for a CTC beam, for a lexicon the ARPA file; with attention the checkpoint of a TransformerLM."
    ),
]
LMWeightOption = Annotated[float | None, typer.Option(help="Of the language model; 0.5 for KenLM, 0.6 with attention.")]
WordBonusOption = Annotated[
    float | None, typer.Option(help="Per word beside a KenLM, 1.5, over a lexicon 1; more is longer texts.")
]
DecodingOption = Annotated[
    Decoding,
    typer.Option(
        help="greedy or beam, with attention where the model has it; lexicon: CTC beam over the words of --lm; "
        "rescore: CTC beam, then attention; ctc."
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def main_callback(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Early-exit speech recognition."""
    logging.getLogger().setLevel(logging.WARNING)


@app.command(epilog=f"Example: {PROGRAM} transcribe --model results/conformer_ee/1234 --entropy 0.1 a.wav b.flac")
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files: wav, flac, ogg, mp3, ..., or /dev/stdin.")],
    model: ModelOption,
    layer: Annotated[int | None, typer.Option(help="Always stop at this exit layer.")] = None,
    entropy: Annotated[
        float | None, typer.Option(help="Stop where the mean frame entropy is at most this; 0 to 1, more is earlier.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Always run the full encoder.")] = False,
    max_layer: Annotated[int | None, typer.Option(help="Never go deeper than this layer.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="MACs that a second of audio may cost, an attention decoder's aside.")
    ] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(help="Milliseconds that a file, or four parts of a long one, may take.")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="A calibration.json; the model's own by default.")] = None,
    decoding: DecodingOption = Decoding.greedy,
    beam_size: BeamSizeOption = None,
    lm: LMOption = None,
    lm_weight: LMWeightOption = None,
    word_bonus: WordBonusOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Transcribe files: FILE<tab>text a line, each stopped as early as the policy allows.

    Without --layer, --entropy or --full: the policy of the model's calibration.json, else the full encoder.
    """
    prepare_process(threads)
    from speechbrain_ee.inference import EarlyExitASR

    policy = _policy(layer, entropy, full)
    limits = {"max_layer": max_layer, "budget": budget, "deadline_ms": deadline_ms}
    asr = EarlyExitASR.from_hparams(model, calibration=calibration, policy=policy, run_opts=_run_opts(device))
    asr.decoder = asr.make_decoder(
        decoding.value, beam_size=beam_size, lm=lm, lm_weight=lm_weight, word_bonus=word_bonus
    )
    if deadline_ms is not None:
        asr.time_exits()  # here, not in the first file's time
    print(f"policy: {_policy_line(asr, limits)}", file=sys.stderr)
    failed = False
    for file in files:
        begin = time.perf_counter()
        try:
            result = asr.transcribe_file(file, **limits)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:  # the other files are still worth having
            logger.debug("%s failed", printable(file), exc_info=True)
            print_error(PROGRAM, _of_file(file, error))
            failed = True
            continue
        if not as_json:
            print(f"{printable(file)}\t{result.text}", flush=True)
            continue
        row = {"file": str(file), "text": result.text, "exit_layer": result.exit_layer, "score": result.score}
        row |= {"macs": result.macs, "seconds": round(time.perf_counter() - begin, 4)}
        row |= {"words": [_rounded(word) for word in result.words], "expected_wer": result.expected_wer}
        print(_json_line(_without_nan(row)), flush=True)
    if failed:
        raise typer.Exit(1)


@app.command(epilog=f"Example: {PROGRAM} evaluate results/conformer_ee/1234 --manifest data/synthetic/test.jsonl")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, bundle, or name on the HuggingFace Hub with --out.")],
    manifest: Annotated[
        list[Path], typer.Option(help="Test manifest: JSON lines, SpeechBrain CSV or JSON; may be repeated.")
    ],
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder that audio paths and $data_root start from; that of the manifest by default."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to; by default RUN/eval/<manifest's stem>, with -beam etc. behind it.")
    ] = None,
    decoding: DecodingOption = Decoding.greedy,
    beam_size: BeamSizeOption = None,
    lm: LMOption = None,
    lm_weight: LMWeightOption = None,
    word_bonus: WordBonusOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Run every exit over a test set: a table here; utterances.jsonl, exits.json, .csv and .png in the folder.

    Results are written as they come: the same command continues what was stopped. An utterance that cannot be evaluated
    is named and left out, with exit status 1; once it is mended, the same command computes only what is missing.
    """
    prepare_process(threads)
    from speechbrain_ee.calibration_file import shift_warning
    from speechbrain_ee.corpora.checks import unwritable_warning
    from speechbrain_ee.corpora.manifest import read_manifest
    from speechbrain_ee.evaluation import evaluate as run_evaluation
    from speechbrain_ee.inference import EarlyExitASR
    from speechbrain_ee.policies import FixedExit
    from speechbrain_ee.report import exits_table, missing_line
    from speechbrain_ee.utterances import read_utterances

    if out is not None and len(manifest) > 1:
        raise typer.BadParameter("--out takes the results of one manifest; leave it away, or give one --manifest")
    stems = [path.stem for path in manifest]
    if len(set(stems)) < len(stems):
        raise typer.BadParameter(f"manifests {', '.join(stems)}: results go by the stem, give each its own name")
    if decoding in (Decoding.greedy, Decoding.ctc):
        for name, value in (
            ("--lm", lm),
            ("--beam-size", beam_size),
            ("--lm-weight", lm_weight),
            ("--word-bonus", word_bonus),
        ):
            if value is not None:
                raise typer.BadParameter(f"{name} needs --decoding beam, lexicon or rescore")
    if out is None and not run.is_dir():  # made here, it would hide the name from then on
        raise typer.BadParameter(f"{run} is no folder here; for a model on the Hub, say with --out where results go")
    # All of them, before hours are spent on the first.
    test_sets = [read_manifest(path, data_root=data_root) for path in manifest]
    asr = EarlyExitASR.from_hparams(run, policy=FixedExit(), run_opts=_run_opts(device))
    asr.decoder = asr.make_decoder(
        decoding.value, beam_size=beam_size, lm=lm, lm_weight=lm_weight, word_bonus=word_bonus
    )
    failed = False
    for path, utterances in zip(manifest, test_sets, strict=True):
        suffix = ("" if decoding is Decoding.greedy else f"-{decoding.value}") + ("" if lm is None else "-lm")
        folder = out or run / "eval" / (path.stem + suffix)
        exits = run_evaluation(asr, utterances, folder, test_set=path.stem)
        print(f"{path.stem}: {exits['num_utterances']} utterances, {exits['num_words']} words, {asr.decoder.name}")
        print(exits_table(exits))
        if warning := unwritable_warning(utterances, asr.hparams.tokenizer):
            print(f"warning: {path.stem}: {warning}", file=sys.stderr)
        if asr.calibration and (
            warning := shift_warning(asr.calibration, read_utterances(folder / "utterances.jsonl"))
        ):
            print(f"warning: {path.stem}: {warning}", file=sys.stderr)
        print(f"{folder}: tables, plot and every hypothesis", file=sys.stderr)
        if exits.get("missing"):
            print_error(PROGRAM, ValueError(missing_line(exits, folder)))
            failed = True
    if failed:
        raise typer.Exit(1)


@app.command(epilog=f"Example: {PROGRAM} calibrate results/conformer_ee/1234 --score entropy --promise 0.5")
def calibrate(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    score: Annotated[str, typer.Option(help="learned, patience, or an exit score.")] = "entropy",
    promise: Annotated[float | None, typer.Option(help="Points of WER that stopping early may cost, promised.")] = None,
    average: Annotated[float | None, typer.Option(help="The same on average over calibration sets only.")] = None,
    max_wer_increase: Annotated[float | None, typer.Option(help="The same on this set only, nothing promised.")] = None,
    max_wer: Annotated[float | None, typer.Option(help="WER in percent on this set, nothing promised.")] = None,
    mean_cost: Annotated[float | None, typer.Option(help="Share of the MACs of full depth.")] = None,
    delta: Annotated[float, typer.Option(help="Chance of a broken promise.")] = 0.1,
    same_speakers: Annotated[
        bool,
        typer.Option("--same-speakers", help="Promise it for further utterances of this set's speakers only."),
    ] = False,
    on: Annotated[
        str, typer.Option(help="The evaluated set to calibrate on; best one that chose no checkpoint, as dev did.")
    ] = "dev",
    out: Annotated[Path | None, typer.Option(help="Folder for calibration.json; RUN by default.")] = None,
) -> None:
    """Choose when to stop from RUN/eval/<set>/utterances.jsonl, for one target: prints what is promised."""
    prepare_process()
    from speechbrain_ee.calibration import calibrate as choose
    from speechbrain_ee.calibration_file import (
        CALIBRATION_FILE,
        check_evaluated,
        fingerprint,
        record_attempt,
        summary,
        write_calibration,
    )
    from speechbrain_ee.decoding import greedy_name
    from speechbrain_ee.model import CONFIG_FILE, MODEL_FILES, load_config
    from speechbrain_ee.utterances import read_utterances

    _check_folder(run)
    targets = {"promise": promise, "average": average, "max_wer_increase": max_wer_increase}
    targets |= {"max_wer": max_wer, "mean_cost": mean_cost}
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise typer.BadParameter(f"give one of {', '.join('--' + name.replace('_', '-') for name in targets)}")
    if promise is not None:
        given["delta"] = delta
    elif delta != 0.1:
        raise typer.BadParameter("--delta is for a promise: give --promise")
    if same_speakers:
        if promise is None and average is None:
            raise typer.BadParameter("--same-speakers is for a promise: give --promise or --average")
        given["same_speakers"] = True
    folder = run / "eval" / on
    utterances = read_utterances(folder / "utterances.jsonl")
    model = fingerprint([run / name for name in MODEL_FILES])
    check_evaluated(folder, model, greedy_name(load_config(run / CONFIG_FILE)))
    found = record_attempt(folder, choose(utterances, score=score, target=given, fitted_on=on, model=model))
    write_calibration(out or run, found)
    print(summary(found))
    print(f"{(out or run) / CALIBRATION_FILE}: written", file=sys.stderr)


@app.command(epilog=f"Example: {PROGRAM} report results/conformer_ee/1234")
def report(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle with evaluated sets.")],
    out: Annotated[Path | None, typer.Option(help="The page; RUN/report.html by default, report.md beside it.")] = None,
) -> None:
    """Make one page of everything evaluated in RUN/eval: policies, thresholds, exits, texts. It works offline."""
    prepare_process()
    from speechbrain_ee.explorer import write_report

    _check_folder(run)
    page = out or run / "report.html"
    write_report(run, page)
    print(f"{page}: {page.stat().st_size / 2**20:.1f} MB; {page.with_suffix('.md').name} beside it", file=sys.stderr)


def _check_folder(run: Path) -> None:
    if not run.is_dir():
        raise ValueError(
            f"{run}: no such folder; give a run folder or a bundle, or fetch a model of the Hub into a folder: "
            "hf download USER/MODEL --local-dir FOLDER"
        )


def _of_file(file: Path, error: Exception) -> Exception:
    """An error that names the file, as those of reading it do."""
    if isinstance(error, AudioError):
        return error
    name, text = printable(file), str(error)
    if isinstance(error, MemoryError) or re.search("out of memory|t allocate memory", text):
        return ValueError(f"{name}: there is not enough memory to transcribe it: close other programs, or cut it")
    return ValueError(f"{name}: {text or type(error).__name__}")


def _json_line(row: dict) -> str:
    """As it is where standard output can show it, else with escapes."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(row, allow_nan=False)
    return line


def _without_nan(value):
    """Null where a number is none: NaN is not JSON."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _rounded(word) -> dict:
    return {name: value if name == "text" else round(value, 3) for name, value in vars(word).items()}


def _policy_line(asr, limits: dict) -> str:
    """The policy as JSON, without the numbers of a learned score."""
    policy = asr.policy.to_dict() | {name: limit for name, limit in limits.items() if limit is not None}
    return json.dumps({name: "..." if name == "learned" else value for name, value in policy.items()})


def _policy(layer: int | None, entropy: float | None, full: bool):
    from speechbrain_ee.policies import FixedExit, ScoreThreshold

    if sum((layer is not None, entropy is not None, full)) > 1:
        raise typer.BadParameter("give one of --layer, --entropy and --full")
    if layer is not None or full:
        return FixedExit(layer)
    return None if entropy is None else ScoreThreshold("entropy", entropy)


def _run_opts(device: str | None) -> dict:
    from speechbrain_ee.distributed import check_device

    if device is None:
        return {}
    try:
        check_device(device)
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from None
    return {"device": "cuda:0" if device == "cuda" else device}  # SpeechBrain wants the number


def main() -> None:
    """Run the command; an error of the user's making is one line and status 1, a wrong call status 2."""
    for stream in (sys.stdout, sys.stderr):  # a character that a terminal cannot show becomes an escape
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with one_line_errors(PROGRAM):
        app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
