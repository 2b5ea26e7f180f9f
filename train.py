#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train a recogniser with exits, evaluate every exit, and leave a model folder that transcribes.

python train.py hparams/conformer_ee.yaml [--key value ...]

Any top-level key of the yaml and any of SpeechBrain's run options (--device, --precision, --compile, ...) can follow.
Run the same command again to resume. `torchrun --nproc_per_node=2 train.py ...` trains on two processes.
"""

import sys
from functools import partial
from pathlib import Path

from ee_runtime.errors import one_line_errors
from speechbrain_ee.startup import prepare_process

with one_line_errors("train.py"):
    prepare_process()  # before torch is imported

import speechbrain as sb
from speechbrain.utils.distributed import ddp_init_group, run_on_main

from ee_runtime.policies import FixedExit
from ee_runtime.text.error_units import unit_of
from speechbrain_ee.calibration.after_training import calibrate_run, forget_calibration_of_another_model
from speechbrain_ee.corpora.checks import unwritable_warning
from speechbrain_ee.errors import show_tracebacks
from speechbrain_ee.evaluation.evaluate import evaluate
from speechbrain_ee.evaluation.tables import exits_table, missing_line, set_size
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.lobes.state_dicts import load_strict
from speechbrain_ee.model.folder import save_model
from speechbrain_ee.startup import check_device
from speechbrain_ee.training.averaging import average_checkpoints, average_warning, mix_state_dicts
from speechbrain_ee.training.brain import ExitBrain
from speechbrain_ee.training.cached_encoder import cache_states, stand_in
from speechbrain_ee.training.command_line import log_config, parse_arguments
from speechbrain_ee.training.data import (
    check_data,
    fit_features,
    make_loaders,
    prepare_corpus,
    read_manifests,
)
from speechbrain_ee.training.hparams import check_settings, load_hparams, warn_of_slow_bf16, write_hparams
from speechbrain_ee.training.processes import check_processes, leave_group_as_main, seed_process
from speechbrain_ee.training.resume import check_same_data, check_same_processes, check_same_run
from speechbrain_ee.training.warm_start import load_checkpoint_encoder, load_initial


def main(argv: list[str]) -> None:
    """Run the whole recipe."""
    hparams_file, run_opts, settings = parse_arguments(argv)
    check_device(run_opts.device)
    check_processes(run_opts.device, run_opts.distributed_backend)
    ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, settings)
    check_settings(hparams, run_opts)
    check_same_run(hparams["output_folder"], hparams_file, settings)
    warn_of_slow_bf16(hparams["precision"], run_opts)
    run_on_main(write_hparams, [hparams["output_folder"], hparams_file, settings])
    hparams.setdefault("grad_accumulation_factor", run_opts.grad_accumulation_factor)
    sb.create_experiment_directory(hparams["output_folder"], **log_config(run_opts))
    show_tracebacks()

    prepare_corpus(hparams)
    train, evaluation_sets = read_manifests(hparams)
    newest = hparams["checkpointer"].find_checkpoint()
    if not run_opts.test_only:
        check_same_processes(newest, hparams["number_of_epochs"])
    sets = {"train": train, "dev": evaluation_sets["dev"]}
    run_on_main(check_same_data, [hparams["output_folder"], sets], {"is_resumed": newest is not None})
    speeds = [1.0] if caches_states(hparams, run_opts) else hparams["speeds"]
    aligned, total_steps = check_data(hparams, train, evaluation_sets["dev"], speeds=speeds)  # gets the tokenizer
    hparams["valid_decoder"] = hparams["valid_decoder"](tokenizer=hparams["tokenizer"])
    start(hparams, train)  # before states are cached: they depend on the encoder's weights
    train_loader, valid_loader = make_data(hparams, run_opts, aligned, evaluation_sets["dev"])

    brain = make_brain(hparams, run_opts, train_loader, total_steps=total_steps)
    seed_process(hparams["seed"])
    if not brain.test_only:
        brain.fit(hparams["epoch_counter"], train_loader, valid_loader)
    if leave_group_as_main():
        save_best(hparams)
        evaluate_all(hparams, evaluation_sets, brain.device)


def start(hparams: dict, train: list) -> None:
    """Set what training begins with: a checkpoint, another run's weights, or else the features' statistics."""
    if hparams["checkpointer"].find_checkpoint() is not None:
        if hparams["state_cache"] is not None:  # the Brain loads the checkpoint later, and never the encoder
            load_checkpoint_encoder(hparams)
    elif hparams["init_from"] is not None:
        load_initial(hparams)
    else:
        fit_features(hparams, train)


def caches_states(hparams: dict, run_opts) -> bool:
    """Whether training reads cached encoder states instead of audio."""
    return hparams["state_cache"] is not None and not run_opts.test_only


def make_data(hparams: dict, run_opts, train: list, valid: list) -> tuple:
    """Make the loaders; with a state cache they read states, and features and encoder pass those on."""
    if not caches_states(hparams, run_opts):
        return make_loaders(hparams, train, valid)
    readers = cache_states(hparams, run_opts.device, train, valid)
    hparams["modules"] |= stand_in(hparams["encoder"])
    hparams |= {"wav_augment": None, "spec_augment": [], "cache_audio": False}
    return make_loaders(hparams, train, valid, readers=readers)


def make_brain(hparams: dict, run_opts, train_loader, *, total_steps: int) -> ExitBrain:
    """Wire the Brain; schedules are made for the number of optimizer steps there will be."""
    brain = ExitBrain(
        hparams["modules"], hparams["opt_class"], hparams, run_opts=run_opts, checkpointer=hparams["checkpointer"]
    )
    brain.hparams.lr_scheduler = partial(hparams["lr_scheduler"], total_steps=total_steps)
    # An exit of weight 0, a decoder that is not drawn or a frozen layer gives no gradient, for which DDP would wait.
    brain.find_unused_parameters |= 0 in hparams["loss"].weights or hparams["heads"].may_skip_parameters
    brain.find_unused_parameters |= hparams["freezing"].frees_later
    brain.train_loader = train_loader
    brain.checkpointer.add_recoverable("train_loader", train_loader)
    return brain


def save_best(hparams: dict) -> None:
    """Average the best checkpoints, mix in what training began with, and write the model folder."""
    unit = unit_of(hparams)
    parts = {name: hparams[name] for name in ("features", "encoder", "heads")}
    if hparams["init_share"] > 0:
        load_initial(hparams)
    for name, part in parts.items():
        state = average_checkpoints(hparams["checkpointer"], name, hparams["average_checkpoints"], min_key=unit.key)
        state = mix_state_dicts(state, part.state_dict(), share=hparams["init_share"])
        load_strict(part, state, what=f"the average of the checkpoints in {hparams['save_folder']}")
    save_model(hparams["output_folder"], parts, tokenizer=hparams["tokenizer_file"], error_unit=unit)
    forget_calibration_of_another_model(hparams["output_folder"])


def evaluate_all(hparams: dict, evaluation_sets: dict[str, list], device: str) -> None:
    """Evaluate every exit on dev and the test sets, and choose the entropy threshold on dev."""
    run = Path(hparams["output_folder"])
    asr = EarlyExitASR.from_hparams(run, policy=FixedExit(), run_opts={"device": device})
    unit, incomplete = unit_of(hparams), []
    for test_set, utterances in evaluation_sets.items():
        exits = evaluate(asr, utterances, run / "eval" / test_set, test_set=test_set, error_unit=unit)
        if exits.get("missing"):
            incomplete.append(missing_line(exits, run / "eval" / test_set))
        print(f"\n{test_set}: {set_size(exits)}\n{exits_table(exits)}")
        if test_set == "dev" and (warning := warning_of_average(hparams, exits, asr.decoder)):
            print(f"warning: {warning}", file=sys.stderr)
        if warning := unwritable_warning(utterances, hparams["tokenizer"], unit):
            print(f"warning: {test_set}: {warning}", file=sys.stderr)
    limit = hparams["max_wer_increase"]
    print(f"\n{calibrate_run(run, asr.fingerprint, max_increase=limit, unit=unit)}")
    print(f"{run / 'eval'}: tables, plots and every hypothesis")
    if incomplete:
        raise ValueError("; ".join(incomplete))


def warning_of_average(hparams: dict, exits: dict, decoder) -> str | None:
    """Return a warning if averaging has raised the error rate on dev, where training measured it the same way."""
    if hparams["init_share"] > 0 or type(decoder) is not type(hparams["valid_decoder"]):
        return None
    unit = unit_of(hparams)
    rates = [one[unit.key] for one in exits["exits"]]
    rate = rates[-1] if hparams["select"] == "last" else sum(rates) / len(rates)
    return average_warning(hparams["checkpointer"], rate, hparams["average_checkpoints"], unit=unit)


if __name__ == "__main__":
    with one_line_errors("train.py"):
        main(sys.argv[1:])
