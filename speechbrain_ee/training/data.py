# SPDX-License-Identifier: Apache-2.0
"""The data of a run: its corpus, manifests, tokenizer and loaders, as the yaml names them."""

from collections.abc import Callable
from pathlib import Path

from speechbrain.utils.distributed import run_on_main
from tqdm import tqdm

from speechbrain_ee.corpora.checks import check_alphabet, check_not_too_long, drop_too_short
from speechbrain_ee.corpora.dataset import SpeechDataset
from speechbrain_ee.corpora.loader import SpeechLoader, make_loader
from speechbrain_ee.corpora.manifest import Utterance, read_manifest
from speechbrain_ee.corpora.recordings import check_durations, load_audio
from speechbrain_ee.text.tokenizer import Tokenizer
from speechbrain_ee.training.processes import in_turn


def prepare_corpus(hparams: dict) -> None:
    """Make the corpus of the yaml, unless all manifests are the user's own."""
    manifests = [hparams["train_manifest"], hparams["valid_manifest"], *hparams["test_manifests"]]
    folder = Path(hparams["data_folder"])
    if hparams["prepare"] is not None and any(folder in Path(manifest).parents for manifest in manifests):
        in_turn(hparams["prepare"], Path(hparams["output_folder"]) / "prepare.lock")


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
        if paths.setdefault(Path(path).stem, path) != path:
            raise ValueError(
                f"{path} and {paths[Path(path).stem]} would both be evaluated as {Path(path).stem}: rename one"
            )

    def read(path: str) -> list[Utterance]:
        utterances = read_manifest(path, data_root=hparams.get("data_root"))
        return check_durations(utterances) if hparams["check_audio"] else utterances

    return read(hparams["train_manifest"]), {name: read(path) for name, path in paths.items()}


def get_tokenizer(hparams: dict, train: list[Utterance]) -> Tokenizer:
    """Load the tokenizer, or train it on the training text where there is none.

    Raises
    ------
    ValueError
        If it has another number of tokens than the exit heads.
    """
    path = Path(hparams["tokenizer_file"])
    # The run's own tokenizer, with which nothing was trained yet, may be of other texts or settings.
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


def fit_features(hparams: dict, train: list[Utterance]) -> None:
    """Set the features' mean and deviation from some 500 training utterances."""
    some = tqdm(train[:: max(1, len(train) // 500)], desc="feature statistics", delay=2, leave=False)
    hparams["features"].fit(load_audio(one.audio_filepath, hparams["features"].sample_rate) for one in some)


def check_utterances(
    hparams: dict, train: list[Utterance], valid: list[Utterance], *, speeds: list[float]
) -> list[Utterance]:
    """Check texts and lengths against the model.

    Arguments
    ---------
    hparams : dict
        With ``tokenizer``, ``features`` and ``encoder``.
    train, valid : list of Utterance
        The two sets.
    speeds : list of float
        Factors of speed perturbation in training.

    Returns
    -------
    list of Utterance
        The training utterances that CTC can align; the others are named and left out.

    Raises
    ------
    ValueError
        If a text has characters without a token, or a recording is longer than the encoder takes.
    """
    tokenizer, features, encoder = (hparams[key] for key in ("tokenizer", "features", "encoder"))
    for utterances in (train, valid):
        check_alphabet(utterances, tokenizer)

    def num_frames(num_samples: int) -> int:
        return encoder.num_output_frames(features.num_frames(num_samples))

    rate, limit = features.sample_rate, encoder.max_output_frames
    check_not_too_long(train, num_frames, limit, speed=min(speeds), sample_rate=rate)
    check_not_too_long(valid, num_frames, limit, sample_rate=rate)
    return drop_too_short(train, tokenizer, num_frames, speed=max(speeds), sample_rate=rate)


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
