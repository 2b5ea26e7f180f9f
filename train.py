#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train a recogniser with exits, evaluate every exit, and leave a model folder that transcribes.

python train.py hparams/conformer_ee.yaml [--key value ...]

Any top-level key of the yaml and any of SpeechBrain's run options (--device, --precision, --compile, ...) can follow.
The same command again resumes where it was stopped. torchrun --nproc_per_node=2 train.py ... trains on two processes.
"""

import sys
from functools import partial
from pathlib import Path

from speechbrain_ee.errors import one_line_errors
from speechbrain_ee.startup import prepare_process

with one_line_errors("train.py"):
    prepare_process()  # before torch is imported

import speechbrain as sb
import torch
from speechbrain.utils.distributed import ddp_barrier, ddp_init_group, if_main_process, infer_device, run_on_main
from tqdm import tqdm

from speechbrain_ee.brain import ExitBrain
from speechbrain_ee.calibration import calibrate, check_not_cut
from speechbrain_ee.calibration_file import (
    CALIBRATION_FILE,
    forget_calibration_of_another_model,
    read_calibration,
    record_attempt,
    summary,
    write_calibration,
)
from speechbrain_ee.command_line import log_config, parse_arguments
from speechbrain_ee.corpora.audio import check_durations, load_audio
from speechbrain_ee.corpora.checks import check_alphabet, check_not_too_long, drop_too_short, unwritable_warning
from speechbrain_ee.corpora.dataset import make_dataset
from speechbrain_ee.corpora.loader import make_loader
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.corpora.state_cache import CachedEncoder, CachedFeatures, StateCache, check_room
from speechbrain_ee.distributed import check_device, in_turn
from speechbrain_ee.errors import show_tracebacks
from speechbrain_ee.evaluation import evaluate
from speechbrain_ee.hparams import check_same_data, check_same_run, load_hparams, write_hparams
from speechbrain_ee.inference import EarlyExitASR
from speechbrain_ee.model import save_model
from speechbrain_ee.policies import FixedExit
from speechbrain_ee.report import exits_table, missing_line
from speechbrain_ee.state_dicts import average_checkpoints, interpolate, load_strict
from speechbrain_ee.tokenizer import Tokenizer
from speechbrain_ee.utterances import read_utterances
from speechbrain_ee.warm_start import warm_start


def main(argv: list[str]) -> None:
    """Run the whole recipe."""
    hparams_file, run_opts, settings = parse_arguments(argv)
    check_device(run_opts.device)
    ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, settings)
    check_settings(hparams)
    check_precision(hparams, run_opts)
    check_same_run(hparams["output_folder"], hparams_file, settings)
    run_on_main(write_hparams, [hparams["output_folder"], hparams_file, settings])
    sb.create_experiment_directory(hparams["output_folder"], **log_config(run_opts))
    show_tracebacks()

    prepare_data(hparams)
    train, evaluation_sets = read_manifests(hparams)
    check_data(hparams, train, evaluation_sets["dev"])
    hparams["tokenizer"] = get_tokenizer(hparams, train)
    hparams["decoder"] = hparams["decoder"](tokenizer=hparams["tokenizer"])
    start(hparams, train)
    train_loader, valid_loader = make_loaders(hparams, run_opts, train, evaluation_sets["dev"])

    brain = make_brain(hparams, run_opts, train_loader)
    if not brain.test_only:
        brain.fit(hparams["epoch_counter"], train_loader, valid_loader)
    if leave_group_as_main():
        save_best(hparams)
        evaluate_all(hparams, evaluation_sets, brain.device)


def check_settings(hparams: dict) -> None:
    """Refuse settings that contradict each other."""
    if not 0 <= (share := hparams["init_share"]) < 1:
        raise ValueError(f"init_share {share} is no share: give 0 (all is what was trained) or more, below 1")
    if share > 0 and hparams["init_from"] is None:
        raise ValueError(f"init_share {share} mixes in the weights of init_from, and there is none: give --init_from")
    if hparams["loss"].weights[-1] > 0:
        return
    if hparams["select"] == "last":
        raise ValueError("select: last chooses checkpoints by an exit of weight 0: give --select mean")
    if hparams["loss"].distillation > 0 and hparams["init_from"] is None:
        raise ValueError("distillation learns from the last exit, which has weight 0: give it more, or --init_from")


def check_precision(hparams: dict, run_opts) -> None:
    """Refuse half precision where the device has none."""
    device = run_opts.device or infer_device()
    precisions = {"precision": hparams["precision"], "eval_precision": run_opts.eval_precision}
    for name, precision in precisions.items():
        if device == "cpu" and (precision == "fp16" or (name == "precision" and run_opts.auto_mix_prec)):
            raise ValueError(f"{name} fp16 needs a GPU, and the device is a CPU: give --{name} bf16 or fp32")


def prepare_data(hparams: dict) -> None:
    """Make the corpus of the yaml, unless all manifests are the user's own."""
    manifests = [hparams["train_manifest"], hparams["valid_manifest"], *hparams["test_manifests"]]
    folder = Path(hparams["data_folder"])
    if hparams["prepare"] is not None and any(folder in Path(manifest).parents for manifest in manifests):
        in_turn(hparams["prepare"], Path(hparams["output_folder"]) / "prepare.lock")


def read_manifests(hparams: dict) -> tuple[list, dict[str, list]]:
    """Read the training set and, by name, the sets to evaluate on: what is wrong with them is said before training."""
    paths = {"dev": hparams["valid_manifest"]}
    for path in hparams["test_manifests"]:
        if paths.setdefault(Path(path).stem, path) != path:
            raise ValueError(
                f"{path} and {paths[Path(path).stem]} would both be evaluated as {Path(path).stem}: rename one"
            )

    def read(path: str) -> list:
        utterances = read_manifest(path, data_root=hparams.get("data_root"))
        return check_durations(utterances) if hparams["check_audio"] else utterances

    return read(hparams["train_manifest"]), {name: read(path) for name, path in paths.items()}


def check_data(hparams: dict, train: list, dev: list) -> None:
    """Refuse to resume a run on other utterances than it was begun with."""
    is_resumed = hparams["checkpointer"].find_checkpoint() is not None
    run_on_main(
        check_same_data,
        [hparams["output_folder"], {"train": train, "dev": dev}],
        {"is_resumed": is_resumed},
    )


def get_tokenizer(hparams: dict, train: list) -> Tokenizer:
    """Train the tokenizer on the training text unless it is there; check that it fits the heads."""
    path = Path(hparams["tokenizer_file"])
    # One of the run's own that nothing was trained with yet may be of other texts or settings.
    is_fresh = hparams["checkpointer"].find_checkpoint() is None and Path(hparams["save_folder"]) in path.parents

    def train_tokenizer() -> None:
        if is_fresh or not path.exists():
            texts = [utterance.text for utterance in train]
            options = {key: hparams[key] for key in ("vocab_size", "alphabet")}
            Tokenizer.train(texts, path=path, model_type=hparams["token_type"], **options)

    run_on_main(train_tokenizer)
    tokenizer = Tokenizer(path)
    if tokenizer.vocab_size != hparams["vocab_size"]:
        raise ValueError(
            f"the tokenizer {path} has {tokenizer.vocab_size} tokens and the exit heads {hparams['vocab_size']}: "
            f"give --vocab_size {tokenizer.vocab_size}, or delete the file to train it anew"
        )
    return tokenizer


def start(hparams: dict, train: list) -> None:
    """Set what training begins with: another run's weights, or else the features' mean and deviation.

    A checkpoint brings its own; states in a cache are computed before it is loaded, so for them its frozen encoder is
    taken here: init_from may have been trained on since.
    """
    if (checkpoint := hparams["checkpointer"].find_checkpoint()) is not None:
        for name in ("features", "encoder") if hparams["state_cache"] is not None else ():
            file = checkpoint.paramfiles[name]
            load_strict(
                hparams[name], torch.load(file, map_location="cpu", weights_only=True), what=f"the checkpoint {file}"
            )
        return
    if hparams["init_from"] is not None:
        load_initial(hparams)
        return
    rate = hparams["features"].sample_rate
    some = tqdm(train[:: max(1, len(train) // 500)], desc="feature statistics", delay=2, leave=False)
    hparams["features"].fit(load_audio(one.audio_filepath, rate) for one in some)


def load_initial(hparams: dict) -> None:
    """Load the weights of init_from; all of them where they are to be mixed with the trained ones."""
    parts = {name: hparams[name] for name in ("features", "encoder", "heads")}
    taken = warm_start(parts, hparams["init_from"], tokenizer_file=hparams["tokenizer_file"])
    new = [layer for layer in hparams["exit_layers"] if layer not in taken]
    if new and hparams["init_share"] > 0:
        raise ValueError(
            f"init_share {hparams['init_share']} mixes in the heads of {hparams['init_from']}, which has none like "
            f"those of the layers {new}: give 0, or a run of the same heads and tokenizer"
        )


def cache_states(hparams: dict, device: str, *sets: list) -> list[StateCache]:
    """Compute the frozen encoder's states once; from here on the Brain gets them in the place of audio."""
    if not hparams["freezing"].always_all:
        raise ValueError("state_cache keeps the states of a frozen encoder: give --freeze encoder and no --unfreeze")
    features, encoder = hparams["features"], hparams["encoder"]
    caches = [StateCache(hparams["state_cache"], utterances, features, encoder) for utterances in sets]
    check_room(caches)
    for cache in caches:
        cache.fill(device=device)  # in turn, under a lock: a barrier would end the run after two hours
    ddp_barrier()
    hparams["modules"] |= {"features": CachedFeatures(), "encoder": CachedEncoder(num_exits=len(encoder.exit_layers))}
    hparams |= {"wav_augment": None, "spec_augment": [], "cache_audio": False}
    return caches


def make_loaders(hparams: dict, run_opts, train: list, valid: list) -> tuple:
    """Make the data loaders; utterances that CTC cannot align are named and left out of training."""
    tokenizer, features, encoder = (hparams[key] for key in ("tokenizer", "features", "encoder"))
    cached = hparams["state_cache"] is not None and not run_opts.test_only
    speeds = [1.0] if cached else hparams["speeds"]
    for utterances in (train, valid):
        check_alphabet(utterances, tokenizer)

    def num_frames(num_samples: int) -> int:
        return encoder.num_output_frames(features.num_frames(num_samples))

    rate, limit = features.sample_rate, encoder.max_output_frames
    check_not_too_long(train, num_frames, limit, speed=min(speeds), sample_rate=rate)
    check_not_too_long(valid, num_frames, limit, sample_rate=rate)
    train = drop_too_short(train, tokenizer, num_frames, speed=max(speeds), sample_rate=rate)
    readers = [None, None]
    if cached:
        readers = [cache.read for cache in cache_states(hparams, run_opts.device, train, valid)]
    common = {"seed": hparams["seed"], "cache_audio": hparams["cache_audio"], "sample_rate": rate}
    train_data = make_dataset(train, tokenizer, augment=hparams["wav_augment"], read=readers[0], **common)
    valid_data = make_dataset(valid, tokenizer, read=readers[1], **common)
    batches = {key: hparams[key] for key in ("max_batch_seconds", "max_batch_size", "num_buckets", "num_workers")}
    batches["min_seconds"] = features.min_seconds
    return (
        make_loader(train_data, shuffle=True, seed=hparams["seed"], **batches),
        make_loader(valid_data, shuffle=False, shard=False, **batches),
    )


def make_brain(hparams: dict, run_opts, train_loader) -> ExitBrain:
    """Wire the Brain; schedules are made for the number of optimizer steps there will be."""
    brain = ExitBrain(
        hparams["modules"], hparams["opt_class"], hparams, run_opts=run_opts, checkpointer=hparams["checkpointer"]
    )
    if brain.grad_accumulation_factor < 1:
        raise ValueError(f"grad_accumulation_factor={brain.grad_accumulation_factor}: give 1 or more")
    steps_per_epoch = len(train_loader) // brain.grad_accumulation_factor
    if steps_per_epoch == 0:
        raise ValueError(
            f"grad_accumulation_factor={brain.grad_accumulation_factor} is more than the {len(train_loader)} batches "
            "of an epoch, so no step would ever be taken: lower it, or max_batch_seconds"
        )
    total_steps = steps_per_epoch * hparams["number_of_epochs"]
    brain.hparams.lr_scheduler = partial(hparams["lr_scheduler"], total_steps=total_steps)
    hparams["freezing"].check_steps(total_steps)
    # An exit of weight 0, a decoder that is not drawn or a frozen layer gives no gradient, for which DDP would wait.
    brain.find_unused_parameters |= 0 in hparams["loss"].weights or hparams["heads"].may_skip_parameters
    brain.find_unused_parameters |= hparams["freezing"].frees_later
    brain.train_loader = train_loader
    brain.checkpointer.add_recoverable("train_loader", train_loader)
    return brain


def leave_group_as_main() -> bool:
    """End what is distributed and say whether this is the main process; the others would wait too long for it."""
    is_main = if_main_process()
    if torch.distributed.is_initialized():
        ddp_barrier()
        torch.distributed.destroy_process_group()
    return is_main


def save_best(hparams: dict) -> None:
    """Average the best checkpoints, mix in what training began with, and write the model folder."""
    parts = {name: hparams[name] for name in ("features", "encoder", "heads")}
    if hparams["init_share"] > 0:
        load_initial(hparams)
    for name, part in parts.items():
        state = average_checkpoints(hparams["checkpointer"], name, hparams["average_checkpoints"], min_key="wer")
        state = interpolate(state, part.state_dict(), share=hparams["init_share"])
        load_strict(part, state, what=f"the average of the checkpoints in {hparams['save_folder']}")
    save_model(hparams["output_folder"], parts, tokenizer=hparams["tokenizer_file"])
    forget_calibration_of_another_model(hparams["output_folder"])


def evaluate_all(hparams: dict, evaluation_sets: dict[str, list], device: str) -> None:
    """Evaluate every exit on dev and the test sets; choose the entropy threshold on dev."""
    run = Path(hparams["output_folder"])
    asr = EarlyExitASR.from_hparams(run, policy=FixedExit(), run_opts={"device": device})
    incomplete = []
    for test_set, utterances in evaluation_sets.items():
        exits = evaluate(asr, utterances, run / "eval" / test_set, test_set=test_set)
        if exits.get("missing"):
            incomplete.append(missing_line(exits, run / "eval" / test_set))
        print(f"\n{test_set}: {exits['num_utterances']} utterances, {exits['num_words']} words\n{exits_table(exits)}")
        if warning := unwritable_warning(utterances, hparams["tokenizer"]):
            print(f"warning: {test_set}: {warning}", file=sys.stderr)
    calibrate_run(hparams, asr.fingerprint)
    print(f"{run / 'eval'}: tables, plots and every hypothesis")
    if incomplete:
        raise ValueError("; ".join(incomplete))


def calibrate_run(hparams: dict, model: str) -> None:
    """Choose the entropy threshold on dev, unless the user has calibrated these very weights for something else."""
    run = Path(hparams["output_folder"])
    own = {"score": "entropy", "target": {"max_wer_increase": hparams["max_wer_increase"]}}
    file = run / CALIBRATION_FILE
    calibration = read_calibration(file, model) if file.exists() else None
    is_own = calibration is None or (calibration["score"], [*calibration["target"]]) == (
        "entropy",
        ["max_wer_increase"],
    )
    if is_own:
        utterances = read_utterances(run / "eval" / "dev" / "utterances.jsonl")
        try:
            check_not_cut(utterances)
        except ValueError as error:
            print(f"\nno threshold is chosen: {error}")
            return
        calibration = record_attempt(run / "eval" / "dev", calibrate(utterances, **own, model=model))
        write_calibration(run, calibration)
    print(f"\n{calibration['score']} for {calibration['target']}: {summary(calibration)}")


if __name__ == "__main__":
    with one_line_errors("train.py"):
        main(sys.argv[1:])
