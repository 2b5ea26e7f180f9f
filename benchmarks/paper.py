# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate the models of the paper's table on one corpus, and put the results next to the paper's figures.

python benchmarks/paper.py --corpus recipes/LibriSpeech --data data/librispeech --out results/paper/LibriSpeech
python benchmarks/paper.py --data data/speech --train a.jsonl b.jsonl --dev dev.jsonl --test test.jsonl --small \
    [--models conformer_ctc] [--depths 2 12] [--source wav2vec2=FOLDER] [--dry-run] [-- --device cuda]

The models are a Conformer-CTC and a Conformer-AED from scratch, and wav2vec2-base and WavLM-base, each with six exits
and as single-exit twins. A corpus is a folder in ``recipes/`` and the folder of its manifests (``--data``), or
manifests for training, dev and test (paths start from ``--data``). Models for which a recipe has no yaml use the yaml
of ``recipes/LibriSpeech``. ``--small`` makes narrow models for a CPU; without ``--source``, their pretrained encoders
are tiny and randomly initialised. The options after ``--`` are passed to train.py for every model.

The exits of a model are compared at greedy decoding, and those of CTC models with a beam, too. Exit rules are compared
at equal mean exit layer: entropy, confidence and, with the beam, the posterior. Writes OUT/paper.md, OUT/paper.json and
OUT/paper.png after every model. Run the same command again to resume: what is finished is skipped, and training that
was interrupted continues from its checkpoint. If a step fails, the other models are still run.
"""

import argparse
import json
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ee_runtime.errors import one_line_errors

if TYPE_CHECKING:
    from paper_corpus import Corpus

SMALL = shlex.split(
    "--token_type char --vocab_size null --number_of_epochs 10 --lr 0.001 --warmup_steps 500 --max_batch_seconds 30 "
    "--max_batch_size 32 --num_buckets 20 --num_workers 0 --cache_audio True --average_checkpoints 3"
)
SMALL_CONFORMER = shlex.split("--d_model 144 --nhead 4 --d_ffn 576 --kernel_size 15")


@dataclass(frozen=True)
class Model:
    """A model of the paper.

    Arguments
    ---------
    label : str
        Name in tables.
    yaml : str
        File name of its yaml in a recipe.
    options : list of str
        Options of train.py that give the paper's model.
    small : list of str
        Options for ``--small``, in addition to ``SMALL``.
    family : str, optional
        The family of a pretrained encoder.
    has_decoders : bool
        Whether the exits have attention decoders. Then the text is theirs, and there is no n-best list of a CTC beam.
    """

    label: str
    yaml: str
    options: list[str] = field(default_factory=list)
    small: list[str] = field(default_factory=list)
    family: str | None = None
    has_decoders: bool = False


MODELS = {
    "conformer_ctc": Model("Conformer-CTC", "conformer_ee.yaml", small=SMALL_CONFORMER),
    "conformer_aed": Model(
        "Conformer-AED",
        "conformer_aed_ee.yaml",
        options=["--decoders", "per_exit"],
        small=[*SMALL_CONFORMER, "--decoders", "shared", "--num_decoder_layers", "2"],
        has_decoders=True,
    ),
    "wav2vec2": Model("wav2vec2-base", "wav2vec2_ee.yaml", family="wav2vec2"),
    "wavlm": Model("WavLM-base", "wavlm_ee.yaml", family="wavlm"),
}


@dataclass(frozen=True)
class Step:
    """A command of the experiment.

    Arguments
    ---------
    model : str
        Key of ``MODELS``.
    folder : Path
        Run folder.
    command : list of str
        The command, without ``python``.
    results : list of Path
        The ``exits.json`` that the step writes; empty for a training.
    """

    model: str
    folder: Path
    command: list[str]
    results: list[Path] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the step is finished: trained with the same options, or evaluated whole and after the training."""
        from twins import FINISHED, finished

        if self.command[0] == "train.py":
            return finished(self.command[1], self.folder, self.command[4:]) is not None
        if not all(path.exists() for path in [self.folder / FINISHED, *self.results]):
            return False
        trained = (self.folder / FINISHED).stat().st_mtime_ns
        return all(one.stat().st_mtime_ns >= trained and not _missing(one) for one in self.results)


def _missing(exits: Path) -> dict:
    """Return the utterances that could not be evaluated."""
    return json.loads(exits.read_text("utf-8")).get("missing") or {}


def plan(name: str, corpus: "Corpus", args: argparse.Namespace, given: list[str]) -> list[Step]:
    """Return the steps of one model: exits, their evaluation with a beam, and twins.

    Raises
    ------
    ValueError
        If an option does not exist, errors are not counted in words, or a twin has a depth at which the model has no
        exit.
    """
    from paper_corpus import DEFAULT_RECIPE, read_settings
    from twins import without

    from speechbrain_ee.training.command_line import parse_arguments

    model = MODELS[name]
    yaml = corpus.recipe / "hparams" / model.yaml
    own = [*SMALL, *model.small] if args.small else model.options
    if not yaml.is_file():  # all models of a corpus have the same characters
        alphabet = read_settings(corpus.recipe / "hparams" / "conformer_ee.yaml", corpus.options(args.out))["alphabet"]
        own = own if alphabet is None else [*own, "--alphabet", alphabet]
        yaml = DEFAULT_RECIPE / "hparams" / model.yaml
    yaml = yaml.relative_to(Path.cwd()) if yaml.is_relative_to(Path.cwd()) else yaml
    if name in args.sources or is_random(name, args):
        own = [*own, "--source", args.sources.get(name, str(tiny_source(name, args)))]
    own = without(own, [word.split("=")[0] for word in given if word.startswith("--")])
    options = [*corpus.options(args.out), *own, *given]
    settings = read_settings(yaml, options)
    if settings["error_unit"] != "word":
        raise ValueError(f"{name}: error_unit is {settings['error_unit']}, but the paper counts words")
    exit_layers = list(settings["exit_layers"])
    folder = args.out / name

    def training(run: str, twin: list[str]) -> Step:
        words = ["train.py", str(yaml), "--output_folder", str(folder / run), *without(options, twin[::2]), *twin]
        return Step(name, folder / run, words)

    steps = [training("exits", [])]
    if not model.has_decoders:
        device = parse_arguments([str(yaml), *options])[1].device
        words = ["-m", "speechbrain_ee.cli", "evaluate", str(folder / "exits"), "--decoding", "beam"]
        words += [word for test in corpus.tests for word in ("--manifest", str(test))]
        words += [] if device is None else ["--device", device]
        done = [folder / "exits" / "eval" / f"{test.stem}-beam" / "exits.json" for test in corpus.tests]
        steps.append(Step(name, folder / "exits", words, done))
    for depth in exit_layers if args.depths is None else args.depths:
        if depth not in exit_layers:
            raise ValueError(f"--depths {depth}: {name} has exits at {', '.join(map(str, exit_layers))}")
        twin = ["--num_layers", str(depth), "--exit_layers", f"[{depth}]"]
        steps.append(training(f"twin_{depth}", twin))
    return steps


def tiny_source(name: str, args: argparse.Namespace) -> Path:
    """Return the folder of the randomly initialised encoder of a small model."""
    return args.out / "tiny" / name


def make_source(name: str, args: argparse.Namespace) -> None:
    """Make the randomly initialised encoder of a small model, if the model needs one."""
    from speechbrain_ee.lobes.pretrained.sources import pretrained_source

    if is_random(name, args):
        pretrained_source(source=None, family=MODELS[name].family, folder=str(tiny_source(name, args)))


def is_random(name: str, args: argparse.Namespace) -> bool:
    """Return whether the encoder of a pretrained model is randomly initialised."""
    return args.small and MODELS[name].family is not None and name not in args.sources


def run(step: Step) -> None:
    """Run a step unless it is finished.

    Raises
    ------
    ValueError
        If its command fails.
    """
    from run_lock import run_lock
    from twins import train

    if step.is_done:
        return
    print(f"\n{shlex.join(['python', *step.command])}", flush=True)
    if step.command[0] == "train.py":
        train(step.command[1], step.folder, step.command[4:])
        return
    with run_lock(step.folder) as lock:
        status = subprocess.run([sys.executable, *step.command], pass_fds=[lock]).returncode
    if status:
        raise ValueError(f"evaluate ended with status {status} in {step.folder}: see its message above")


def parse(argv: list[str]) -> tuple[argparse.Namespace, "Corpus", list[str]]:
    """Parse the command line; returns the arguments, the corpus and the options of train.py."""
    from paper_corpus import DEFAULT_RECIPE, Corpus, recipe_corpus

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="recipe of the corpus, such as recipes/LibriSpeech")
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the manifests")
    parser.add_argument("--train", type=Path, nargs="+", help="manifests to train on, instead of --corpus")
    parser.add_argument("--dev", type=Path, help="manifest that selects checkpoints")
    parser.add_argument("--test", type=Path, nargs="+", help="manifests to test on")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    parser.add_argument("--depths", type=int, nargs="*", help="layers of the twins; default: all exit layers")
    parser.add_argument(
        "--source",
        nargs="+",
        default=[],
        metavar="MODEL=SOURCE",
        help="folder, or name on the Hub, of the pretrained encoder of wav2vec2 or wavlm",
    )
    parser.add_argument("--small", action="store_true", help="small models for a CPU")
    parser.add_argument("--out", type=Path, default=Path("results/paper"), help="folder to write")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that are not finished, and end")
    at = argv.index("--") if "--" in argv else len(argv)
    args, given = parser.parse_args(argv[:at]), argv[at + 1 :]
    args.sources = dict(one.partition("=")[::2] for one in args.source)
    known = [name for name, model in MODELS.items() if model.family is not None]
    if not all(name in known and source for name, source in args.sources.items()):
        parser.error(f"--source {' '.join(args.source)}: give {' or '.join(f'{name}=FOLDER' for name in known)}")
    manifests = [args.train, args.dev, args.test]
    if args.corpus is not None and not any(manifests):
        return args, recipe_corpus(args.corpus, args.data), given
    if args.corpus is not None or not all(manifests):
        parser.error("give either --corpus, or --train, --dev and --test")
    train, tests = ([args.data / one for one in paths] for paths in (args.train, args.test))
    return args, Corpus("own data", DEFAULT_RECIPE, args.data, train, args.data / args.dev, tests), given


def main() -> None:
    """Run all models, and write the tables after each of them."""
    from paper_table import collect, markdown, publish

    from speechbrain_ee.lobes.pretrained.sources import import_transformers

    args, corpus, given = parse(sys.argv[1:])
    plans = {name: plan(name, corpus, args, given) for name in args.models}  # all, so that errors are found early
    if args.dry_run:
        for step in (step for steps in plans.values() for step in steps):
            print(f"{'# finished: ' if step.is_done else ''}{shlex.join(['python', *step.command])}")
        return
    if any(MODELS[name].family for name in plans):
        import_transformers()  # whose absence is found before hours of training
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the subprocess, too
    corpus.prepare(args.out)
    failures = []
    for name, steps in plans.items():
        try:
            make_source(name, args)
            for step in steps:
                run(step)
        except ValueError as error:
            failures.append(f"{name}: {error}")
        random = [one for one in MODELS if is_random(one, args)]
        results = collect(args.out, corpus, list(MODELS), small=args.small, random=random, options=given)
        publish(results, args.out)
    print(f"\n{markdown(results)}")
    if failures:
        raise ValueError("; ".join(failures))


if __name__ == "__main__":
    with one_line_errors("paper.py"):
        main()
