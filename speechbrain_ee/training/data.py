# SPDX-License-Identifier: Apache-2.0
"""The data of a run: its corpus, manifests, tokenizer and loaders, as the yaml names them."""

from collections.abc import Callable
from pathlib import Path

from speechbrain.utils.distributed import run_on_main
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from speechbrain_ee.corpora.batching import padded_seconds
from speechbrain_ee.corpora.checks import check_alphabet, check_dev_alphabet, check_not_too_long, drop_too_short
from speechbrain_ee.corpora.dataset import SpeechDataset
from speechbrain_ee.corpora.loader import SpeechLoader, make_loader, make_sampler
from speechbrain_ee.corpora.manifest import Utterance, manifest_name, read_manifest
from speechbrain_ee.corpora.recordings import check_durations, load_audio
from speechbrain_ee.errors import Problems
from speechbrain_ee.text.tokenizer import Tokenizer
from speechbrain_ee.training.processes import in_turn
from speechbrain_ee.training.schedulers import fitting_warmup

logger = get_logger(__name__)


def prepare_corpus(hparams: dict) -> None:
    """Make the corpus of the yaml, unless all manifests are the user's own."""
    manifests = [hparams["train_manifest"], hparams["valid_manifest"], *hparams["test_manifests"]]
    if hparams["prepare"] is not None and any(_is_prepared(hparams, manifest) for manifest in manifests):
        in_turn(hparams["prepare"], Path(hparams["output_folder"]) / "prepare.lock")


def _is_prepared(hparams: dict, manifest: str) -> bool:
    """Return whether a manifest is one of the corpus that ``prepare`` makes."""
    return Path(hparams["data_folder"]) in Path(manifest).parents


def read_manifests(hparams: dict) -> tuple[list[Utterance], dict[str, list[Utterance]]]:
    """Read the training set and, by name, the sets to evaluate on, so that errors in them show before training.

    Returns
    -------
    tuple
        Utterances to train on, and those of ``dev`` and of each test set by the stem of its file.

    Raises
    ------
    ValueError
        If two sets would be evaluated under one name.
    ManifestError
        If a manifest or one of its recordings cannot be read.
    """
    paths = {"dev": hparams["valid_manifest"]}
    for path in hparams["test_manifests"]:
        name = manifest_name(path)
        if paths.setdefault(name, path) != path:
            raise ValueError(f"{path} and {paths[name]} would both be evaluated as {name}: rename one")

    def read(path: str) -> list[Utterance]:
        utterances = read_manifest(path, data_root=hparams.get("data_root"))
        return check_durations(utterances) if hparams["check_audio"] else utterances

    return read(hparams["train_manifest"]), {name: read(path) for name, path in paths.items()}


def get_tokenizer(hparams: dict, train: list[Utterance]) -> Tokenizer:
    """Load the tokenizer, or train it on the training text where there is none.

    With ``vocab_size: null``, the exit heads get an output for each of its tokens.

    Raises
    ------
    ValueError
        If it has another number of tokens than ``vocab_size``.
    """
    path = Path(hparams["tokenizer_file"])
    # The run's own tokenizer, with which nothing was trained yet, may be of other texts or settings.
    is_fresh = hparams["checkpointer"].find_checkpoint() is None and Path(hparams["save_folder"]) in path.parents

    def train_tokenizer() -> None:
        if is_fresh or not path.exists():
            texts = [utterance.text for utterance in train]
            options = {"vocab_size": hparams["vocab_size"], "alphabet": _alphabet(hparams)}
            Tokenizer.train(texts, path=path, model_type=hparams["token_type"], **options)

    run_on_main(train_tokenizer)
    tokenizer = Tokenizer(path)
    if hparams["vocab_size"] is None:
        hparams["heads"].set_vocab_size(tokenizer.vocab_size)
    elif tokenizer.vocab_size != hparams["vocab_size"]:
        raise ValueError(
            f"the tokenizer {path} has {tokenizer.vocab_size} tokens and the exit heads {hparams['vocab_size']}: "
            f"give --vocab_size {tokenizer.vocab_size}, or null, which is the number of tokens"
        )
    return tokenizer


def _alphabet(hparams: dict) -> str:
    """Return the further characters of the tokenizer; null means those of the corpus that ``prepare`` makes."""
    if hparams["alphabet"] is not None:
        return hparams["alphabet"]
    prepare = hparams["prepare"]
    if prepare is None or not _is_prepared(hparams, hparams["train_manifest"]):
        return ""
    return getattr(getattr(prepare, "func", prepare), "alphabet", "")


def fit_features(hparams: dict, train: list[Utterance]) -> None:
    """Set the features' mean and deviation from some 500 training utterances."""
    some = tqdm(train[:: max(1, len(train) // 500)], desc="feature statistics", delay=2, leave=False)
    rate = hparams["features"].sample_rate
    hparams["features"].fit(load_audio(one.audio_filepath, rate, excerpt=one.excerpt) for one in some)


def check_data(
    hparams: dict, train: list[Utterance], valid: list[Utterance], *, speeds: list[float]
) -> tuple[list[Utterance], int]:
    """Get the tokenizer, and check texts, lengths and numbers of steps against model and settings.

    No audio is read: a run that cannot succeed ends before its data are prepared, with one error for all problems.

    Arguments
    ---------
    hparams : dict
        With ``features``, ``encoder`` and ``heads``; ``tokenizer`` is added.
    train, valid : list of Utterance
        The two sets.
    speeds : list of float
        Factors of speed perturbation in training.

    Returns
    -------
    tuple
        The training utterances that CTC can align (the others are named and left out), and the number of optimizer
        steps of a training on them.

    Raises
    ------
    ValueError
        If the tokenizer does not suit the exit heads, texts have characters without a token, a recording is longer than
        the encoder takes, or training has too few steps for the settings.
    """
    problems, features, encoder = Problems(), hparams["features"], hparams["encoder"]

    def num_frames(num_samples: int) -> int:
        return encoder.num_output_frames(features.num_frames(num_samples))

    rate, limit, kept, total_steps = features.sample_rate, encoder.max_output_frames, train, 0
    with problems.check():
        hparams["tokenizer"] = get_tokenizer(hparams, train)
    with problems.check():
        check_not_too_long(train, num_frames, limit, speed=min(speeds), sample_rate=rate)
    with problems.check():
        check_not_too_long(valid, num_frames, limit, sample_rate=rate)
    if (tokenizer := hparams.get("tokenizer")) is not None:
        with problems.check():
            check_alphabet(train, tokenizer)
        with problems.check():
            if warning := check_dev_alphabet(valid, tokenizer):
                logger.warning("%s: %s", hparams["valid_manifest"], warning)
        with problems.check():
            kept = drop_too_short(train, tokenizer, num_frames, speed=max(speeds), sample_rate=rate)
    with problems.check():
        total_steps = count_steps(hparams, kept)
        _check_steps(hparams, total_steps)
    problems.raise_all()
    return kept, total_steps


def _check_steps(hparams: dict, total_steps: int) -> None:
    """Check what depends on the number of optimizer steps."""
    hparams["freezing"].check_steps(total_steps)
    wanted = hparams.get("warmup_steps", 1)
    fitting = fitting_warmup(hparams.get("lr_schedule", "noam"), wanted, total_steps)
    if fitting < wanted:
        logger.warning(
            "warmup_steps %d do not fit into the %d optimizer steps of this training: the learning rate rises for %d "
            "steps; more epochs or a smaller max_batch_seconds give more steps",
            *(wanted, total_steps, fitting),
        )


def count_steps(hparams: dict, train: list[Utterance]) -> int:
    """Return the number of optimizer steps of a training run.

    Raises
    ------
    ValueError
        If an optimizer step would have more batches than utterances of similar length.
    """
    seconds = padded_seconds([one.duration for one in train], hparams["features"].min_seconds)
    options = {key: hparams[key] for key in ("max_batch_seconds", "max_batch_size", "num_buckets", "seed")}
    per_step = hparams.get("grad_accumulation_factor", 1)
    num_batches = len(make_sampler(seconds, shuffle=True, batches_per_step=per_step, **options))
    return num_batches // per_step * hparams["number_of_epochs"]


def make_loaders(
    hparams: dict,
    train: list[Utterance],
    valid: list[Utterance],
    *,
    readers: tuple[Callable | None, Callable | None] = (None, None),
) -> tuple[SpeechLoader, SpeechLoader]:
    """Make the data loaders of training and validation.

    Arguments
    ---------
    hparams : dict
        With ``tokenizer``, ``features`` and the settings of batches and augmentation.
    train, valid : list of Utterance
        The two sets.
    readers : tuple
        For each set, what gives an utterance's input by its id in place of its audio; None reads the audio.

    Returns
    -------
    tuple of SpeechLoader
        Of training, shuffled and resumable, and of validation.
    """
    tokenizer, features = hparams["tokenizer"], hparams["features"]
    common = {"seed": hparams["seed"], "cache_audio": hparams["cache_audio"], "sample_rate": features.sample_rate}
    train_data = SpeechDataset(train, tokenizer, augment=hparams["wav_augment"], read=readers[0], **common)
    valid_data = SpeechDataset(valid, tokenizer, read=readers[1], **common)
    batches = {key: hparams[key] for key in ("max_batch_seconds", "max_batch_size", "num_buckets", "num_workers")}
    batches["min_seconds"] = features.min_seconds
    per_step = hparams.get("grad_accumulation_factor", 1)
    return (
        make_loader(train_data, shuffle=True, seed=hparams["seed"], batches_per_step=per_step, **batches),
        make_loader(valid_data, shuffle=False, **batches),
    )
