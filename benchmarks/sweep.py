# SPDX-License-Identifier: Apache-2.0
"""Search the learning rate, the number of layers and the exit weights with Optuna, by dev WER at the last exit.

python benchmarks/sweep.py hparams/conformer_ee.yaml --layers 4 5 6 --trials 12 --out results/sweep -- \
    --number_of_epochs 4

Needs ``pip install -e '.[sweep]'``. Each trial is a subprocess of train.py. After every epoch, the dev WER at the last
exit is read from the trial's train_log.txt. If it is worse than the median of the finished trials at this epoch, the
trial is pruned: its subprocess is stopped. The other trials are stopped after the last epoch, before the evaluation.
The options after ``--`` are passed to train.py for every trial.

Writes OUT/sweep.json and OUT/sweep.png. Prints a Markdown table and the command that finishes the best trial. The study
is stored in OUT/study.log. Run the same command again to resume; a trial that was interrupted continues from its
checkpoint. A larger number of ``--trials`` continues a finished study.
"""

import argparse
import json
import shlex
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from ee_runtime.errors import one_line_errors
from ee_runtime.text.error_units import error_unit

NUM_RANDOM_TRIALS = 5  # before the sampler models the results
NUM_UNPRUNED_TRIALS = 3  # that must reach an epoch before a trial can be pruned at it
NUM_UNPRUNED_EPOCHS = 1  # at the start of every trial


@dataclass(frozen=True)
class Space:
    """What is searched.

    Arguments
    ---------
    lr : tuple of float
        Lowest and highest learning rate, sampled on a logarithmic scale.
    layers : tuple of int
        Numbers of encoder layers. A model has the exits of the yaml below its last layer, and one at its last layer.
    weight_power : tuple of float
        Lowest and highest power p of the exit weights: the weight of the exit at layer k is proportional to k ** p. 0
        is ``uniform``, 1 is ``depth``.
    """

    lr: tuple[float, float]
    layers: tuple[int, ...]
    weight_power: tuple[float, float]

    NAMES: ClassVar = {"lr", "layers", "weight_power"}

    def sample(self, trial) -> dict:
        """Return the parameters that Optuna suggests."""
        return {
            "lr": trial.suggest_float("lr", *self.lr, log=True),
            "layers": trial.suggest_categorical("layers", self.layers),
            "weight_power": trial.suggest_float("weight_power", *self.weight_power),
        }


def overrides(params: dict, exit_layers: list[int]) -> list[str]:
    """Return the options of train.py for the parameters of a trial.

    >>> overrides({"lr": 0.00123456, "layers": 4, "weight_power": 1.0}, [2, 4, 6])
    ['--lr', '0.001235', '--num_layers', '4', '--exit_layers', '[2, 4]', '--exit_weights', '[0.6667, 1.3333]']
    """
    layers = params["layers"]
    exits = [layer for layer in exit_layers if layer < layers] + [layers]
    weights = [layer ** params["weight_power"] for layer in exits]
    shares = [round(weight * len(exits) / sum(weights), 4) for weight in weights]
    return [
        *("--lr", f"{params['lr']:.4g}", "--num_layers", str(layers)),
        *("--exit_layers", str(exits), "--exit_weights", str(shares)),
    ]


def open_study(out: Path, settings: dict, seed: int):
    """Open or create the study of a folder.

    Raises
    ------
    ValueError
        If the folder has a study with other settings.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(out / "study.log"))),
        study_name="sweep",
        direction="minimize",
        load_if_exists=True,
    )
    settings = json.loads(json.dumps(settings))  # as it is stored
    before = study.user_attrs.get("settings", settings)
    if differing := sorted(name for name in settings if before.get(name) != settings[name]):
        was = ", ".join(f"{name} was {before.get(name)!r}" for name in differing)
        raise ValueError(f"{out} has a study with other settings ({was}): give another --out, or the same settings")
    study.set_user_attr("settings", settings)
    # Without the number of trials, a resumed sampler would repeat its first random draws.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=NUM_RANDOM_TRIALS)
    # Optuna counts steps from 0, and epochs are counted from 1.
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=NUM_UNPRUNED_TRIALS, n_warmup_steps=NUM_UNPRUNED_EPOCHS + 1
    )
    return study


def requeue_interrupted(study) -> None:
    """Queue trials whose sweep was interrupted; they continue in their folder under a new number."""
    import optuna

    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if trial.params.keys() == Space.NAMES:
            study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs["folder"]})


def sweep(hparams: str, space: Space, given: list[str], *, trials: int, out: Path, seed: int, command: str) -> dict:
    """Run trials until the study has enough of them.

    Arguments
    ---------
    hparams : str
        The yaml.
    space : Space
        What is searched.
    given : list of str
        Options of train.py for every trial.
    trials : int
        Number of trials in all, pruned ones included.
    out : Path
        Folder of the study.
    seed : int
        Seed of the sampler.
    command : str
        Command line, for sweep.json.

    Returns
    -------
    dict
        The results, as in sweep.json.

    Raises
    ------
    ValueError
        If the settings differ from those of the study, train.py fails, or another process uses the folder.
    """
    import optuna
    from run_lock import run_lock
    from sweep_results import publish

    from speechbrain_ee.training.command_line import parse_arguments
    from speechbrain_ee.training.hparams import load_hparams

    yaml = load_hparams(*parse_arguments([hparams, *given])[::2])
    unit = error_unit(yaml["error_unit"])
    with run_lock(out / "study") as lock:
        study = open_study(out, {"hparams": hparams, "options": given, "space": asdict(space)}, seed)
        requeue_interrupted(study)
        ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        while len(study.get_trials(states=ended)) < trials:
            _next_trial(study, space, hparams, given, yaml, out, lock)
            publish(study, out, command, unit, with_plot=False)
        return publish(study, out, command, unit)


def _next_trial(study, space: Space, hparams: str, given: list[str], yaml: dict, out: Path, lock: int) -> None:
    import optuna
    from sweep_trial import run_trial
    from twins import train_command, without

    trial = study.ask()
    folder = trial.user_attrs.get("folder", f"trial_{trial.number}")
    trial.set_user_attr("folder", folder)
    params = space.sample(trial)
    own, unit = overrides(params, yaml["exit_layers"]), error_unit(yaml["error_unit"])
    trial.set_user_attr("options", own)
    print(f"trial {trial.number}: {shlex.join(own)}", flush=True)
    command = train_command(hparams, out / folder, without(given, own[::2]) + own)
    try:
        wer = run_trial(trial, command, out / folder, params["layers"], yaml["number_of_epochs"], lock, unit)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        print(f"trial {trial.number}: pruned", flush=True)
        return
    except ValueError:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise
    if wer is None:
        trial.set_user_attr("diverged", True)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, wer)


def main() -> None:
    """Run the sweep, print the table and the command for the best model."""
    from sweep_results import markdown
    from twins import without

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hparams", help="yaml of the model")
    parser.add_argument("--trials", type=int, default=20, help="number of trials in all, pruned ones included")
    parser.add_argument("--layers", type=int, nargs="+", required=True, help="numbers of encoder layers to try")
    parser.add_argument("--lr", type=float, nargs=2, default=[5e-4, 5e-3], metavar=("LOW", "HIGH"))
    parser.add_argument(
        "--weight-power", type=float, nargs=2, default=[0.0, 2.0], metavar=("LOW", "HIGH"), help="of the exit weights"
    )
    parser.add_argument("--out", type=Path, default=Path("results/sweep"), help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampler")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, given = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    for name, (low, high) in (("--lr", args.lr), ("--weight-power", args.weight_power)):
        if not low <= high or (name == "--lr" and low <= 0):
            parser.error(f"{name} {low} {high}: give the lower number first" + (", above 0" if name == "--lr" else ""))
    if args.trials < 1 or min(args.layers) < 1:
        parser.error("--trials and --layers: give numbers of 1 or more")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the subprocess, too
    space = Space(tuple(args.lr), tuple(sorted(set(args.layers))), tuple(args.weight_power))
    results = sweep(
        args.hparams, space, given, trials=args.trials, out=args.out, seed=args.seed, command=shlex.join(sys.argv)
    )
    print(f"\n{markdown(results)}\n")
    if best := next((one for one in results["trials"] if one["trial"] == results["best"]), None):
        options = [*without(given, best["options"][::2]), *best["options"]]
        words = ["python", "train.py", args.hparams, "--output_folder", str(args.out / best["folder"]), *options]
        print(f"The best trial is {best['trial']}. This command finishes and evaluates it:\n{shlex.join(words)}")


if __name__ == "__main__":
    with one_line_errors("sweep.py"):
        main()
