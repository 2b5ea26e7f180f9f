# SPDX-License-Identifier: Apache-2.0
"""``calibration.json``: the policy that travels with a model, what was promised of it, and whether it still fits."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from speechbrain_ee.file_digests import file_digest
from speechbrain_ee.files import write_whole
from speechbrain_ee.model import MODEL_FILES
from speechbrain_ee.policies import FixedExit, Policy, ThresholdPolicy, policy_from_dict
from speechbrain_ee.replay import replay
from speechbrain_ee.risk import TEST_NAME
from speechbrain_ee.sweeps import unsureness

logger = logging.getLogger(__name__)

CALIBRATION_FILE = "calibration.json"
ATTEMPTS_FILE = "calibrations.json"
RANGE = (0.005, 0.995)  # quantiles of the scores that count as seen before
MAX_SHARE_OUTSIDE = 0.05


def fingerprint(files: Sequence[str | Path]) -> str:
    """Hash of the files that make a model what it is: another model's calibration is refused.

    Arguments
    ---------
    files : sequence of str or Path
        Configuration, weights, tokenizer; all of their contents count.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(file_digest(file))
    return digest.hexdigest()[:16]


def check_evaluated(folder: str | Path, model: str, decoding: str) -> None:
    """Check that an evaluated set can be calibrated on.

    Arguments
    ---------
    folder : str or Path
        ``RUN/eval/<set>``.
    model : str
        :func:`fingerprint` of the model in the run.
    decoding : str
        Name of the decoder that transcription runs.

    Raises
    ------
    ValueError
        If another model was evaluated, or with a decoder that transcription does not run.
    """
    exits = json.loads((Path(folder) / "exits.json").read_text("utf-8"))
    if exits.get("model") not in (None, model):
        raise ValueError(
            f"{folder} was evaluated with another model ({exits['model']}, this one is {model}): evaluate it again"
        )
    if missing := exits.get("missing"):
        raise ValueError(
            f"{folder} lacks {len(missing)} utterances that could not be evaluated (first: {next(iter(missing))}): "
            "mend them or leave them out of the manifest, and evaluate it again"
        )
    if exits["decoding"] != decoding:
        raise ValueError(
            f"{folder} was decoded with {exits['decoding']}, and transcribe decodes with {decoding}: evaluate it so"
        )


def make_calibration(
    policy: Policy,
    utterances: Sequence[Mapping],
    *,
    score: str,
    target: Mapping,
    promise: Mapping | None = None,
    fitted_on: str = "dev",
    model: str | None = None,
    confidence: Mapping | None = None,
) -> dict:
    """Collect what goes into ``calibration.json``.

    Arguments
    ---------
    policy : Policy
        What was chosen.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` that it was chosen on.
    score : str
        What the policy looks at: a score's name, ``patience`` or ``learned``.
    target : mapping
        What was asked for.
    promise : mapping, optional
        The record of :func:`for_promise` or :func:`for_average`.
    fitted_on : str
        Name of the set.
    model : str, optional
        :func:`fingerprint` of the model.
    confidence : mapping, optional
        What :func:`~speechbrain_ee.confidence.fit_confidence` gives.

    Returns
    -------
    dict
        ``policy``, ``score``, ``target``, ``promise``, ``fitted_on`` with what was reached there, ``value_range`` by
        exit layer, ``model`` and ``confidence``.
    """
    reached = replay(policy, utterances)
    return {
        "policy": policy.to_dict(),
        "score": score,
        "target": dict(target),
        "promise": None if promise is None else dict(promise),
        "fitted_on": {
            "test_set": fitted_on,
            "num_utterances": len(utterances),
            "wer": reached.wer,
            "full_wer": replay(FixedExit(), utterances).wer,
            "mean_layer": reached.mean_layer,
        },
        "value_range": _value_range(policy, utterances),
        "model": model,
        "confidence": dict(confidence or {}),
    }


def describe(promise: Mapping | None) -> str:
    """One sentence that says what is promised, and on what assumptions."""
    if promise is None:
        return "nothing is promised: the threshold was chosen by what it did on these utterances"
    if not promise["granted"]:
        return f"{_refusal(promise)}: every utterance takes the last exit"
    if promise.get("on_average"):
        told = f"on average over calibration sets, WER is at most {promise['epsilon']} points above the full model's"
        bound = (
            f"losses counted up to {promise['bound_words']:g} words an utterance" if "bound_words" in promise else ""
        )
        return f"{told} ({', '.join(filter(None, [bound, _drawn(promise)]))})"
    how = "asymptotic: right for many, and by simulation from this many on"
    if promise["test"] != TEST_NAME:  # of an earlier version
        how = "asymptotic, too sure where losses are rare: calibrate again"
    if not promise["asymptotic"]:
        how = f"in finite samples, an utterance's loss counted up to {promise['bound_words']:g} words"
    return (
        f"WER is at most {promise['epsilon']} points above the full model's, with probability {1 - promise['delta']:g} "
        f"({promise['test']} test, {how}; {_drawn(promise)})"
    )


def _refusal(promise: Mapping) -> str:
    refusal = f"nothing cheaper than full depth can be promised at {promise['epsilon']} points"
    if promise.get("num_independent", math.inf) >= promise.get("fewest", 0):
        return refusal
    units = promise["independent"]
    return (
        f"{refusal} from {promise['num_independent']} {units}, {promise['fewest']} are needed where none of them loses "
        "a word"
    )


def _drawn(promise: Mapping) -> str:
    """What was taken for independent."""
    if "independent" not in promise:  # of an earlier version
        return ""
    number, units = promise["num_independent"], promise["independent"]
    if units == "speakers":
        unnamed = promise.get("num_unnamed", 0)
        return f"{number} speakers" + (f", {unnamed} utterances without one as a speaker each" if unnamed else "")
    speakers = promise.get("num_speakers")
    of = "no speakers are named" if speakers is None else f"of {speakers} speaker{'s' * (speakers > 1)} and no others"
    return f"{number} utterances, taken as independent: {of}"


def summary(calibration: Mapping) -> str:
    """Lines for a terminal: what is promised, what was reached, and how often it was tried."""
    reached = calibration["fitted_on"]
    lines = [
        describe(calibration["promise"]),
        f"on {reached['num_utterances']} utterances of {reached['test_set']}: WER {reached['wer']:.2f} % (full depth "
        f"{reached['full_wer']:.2f} %), mean exit layer {reached['mean_layer']:.2f}",
    ]
    tried, delta = calibration.get("tried", {}).get("promises", 1), (calibration["promise"] or {}).get("delta")
    if calibration["promise"] and tried > 1:
        lines.append(
            f"{tried} promises were tried on {reached['test_set']} with this model: what is said holds for one that "
            "was chosen beforehand"
            + (f"; for the best of {tried}, ask each with --delta {delta / tried:.2g}" if delta else "")
        )
    return "\n".join(lines)


def record_attempt(folder: str | Path, calibration: Mapping) -> dict:
    """Count the different calibrations that were tried on a set with a model: the best of many promises less.

    Arguments
    ---------
    folder : str or Path
        ``RUN/eval/<set>``; the attempts are remembered in its ``calibrations.json``.
    calibration : mapping
        What :func:`make_calibration` gave.

    Returns
    -------
    dict
        The same with ``tried``, the number of ``calibrations`` and of those the ``promises``.
    """
    path = Path(folder) / ATTEMPTS_FILE
    before = json.loads(path.read_text("utf-8")) if path.exists() else []
    attempts = [one for one in before if one["model"] == calibration["model"]]
    attempt = {name: calibration[name] for name in ("model", "score", "target")}
    if attempt not in attempts:
        attempts.append(attempt)
    if attempts != before:
        try:
            write_whole(path, (json.dumps(attempts, indent=1) + "\n").encode())
        except OSError as error:
            logger.warning("%s cannot be written (%s): this calibration is not counted there", path, error.strerror)
    promises = [one for one in attempts if "promise" in one["target"] or "average" in one["target"]]
    return {**calibration, "tried": {"calibrations": len(attempts), "promises": len(promises)}}


def share_outside(calibration: Mapping, utterances: Sequence[Mapping]) -> float | None:
    """Share of a test set's scores outside the range seen in calibration; about 0.01 where nothing has changed.

    Arguments
    ---------
    calibration : mapping
        The contents of ``calibration.json``.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` of the test set.

    Returns
    -------
    float or None
        The largest over the exits; None for a policy without a threshold, and where its scores are missing.
    """
    policy = policy_from_dict(calibration["policy"])
    if not calibration.get("value_range") or not set(policy.score_names) <= set(utterances[0]["exits"][0]["scores"]):
        return None
    layers = [str(exit["layer"]) for exit in utterances[0]["exits"][:-1]]
    if layers != list(calibration["value_range"]):
        raise ValueError(
            f"the calibration is of exits {', '.join(calibration['value_range'])} and the last, these utterances have "
            f"{', '.join(layers)} and the last: calibrate again"
        )
    values = unsureness(policy, utterances)
    limits = np.array(list(calibration["value_range"].values()), dtype=float)
    inside = (values >= limits[:, 0]) & (values <= limits[:, 1])  # NaN is not
    return float(1 - inside.mean(axis=0).min())


def shift_warning(calibration: Mapping, utterances: Sequence[Mapping]) -> str | None:
    """One line if a test set is not like the calibration set, else None."""
    share = share_outside(calibration, utterances)
    # more than could be chance in a set this small, were it the allowed share
    if share is None or stats.binom.sf(share * len(utterances) - 1, len(utterances), MAX_SHARE_OUTSIDE) > 0.01:
        return None
    return (
        f"{100 * share:.0f} % of the scores lie outside the range of {calibration['fitted_on']['test_set']}, where "
        f"{100 * (1 - RANGE[1] + RANGE[0]):.0f} % did: what was calibrated there need not hold here"
    )


def write_calibration(folder: str | Path, calibration: Mapping) -> None:
    """Write ``calibration.json`` into a model folder, whole or not at all."""
    write_whole(Path(folder) / CALIBRATION_FILE, (json.dumps(calibration, indent=2) + "\n").encode())


def forget_calibration_of_another_model(folder: str | Path) -> None:
    """Remove ``calibration.json`` from a model folder whose weights have changed since: it would be refused."""
    path = Path(folder) / CALIBRATION_FILE
    if path.exists():
        try:
            found = read_calibration(path, fingerprint([Path(folder) / name for name in MODEL_FILES]))
            _ = found["score"], found["target"], found["fitted_on"]["full_wer"]  # an old file has less
        except (KeyError, ValueError):
            path.unlink()


def read_calibration(path: str | Path, model: str | None = None) -> dict:
    """Read a ``calibration.json``.

    Arguments
    ---------
    path : str or Path
        The file.
    model : str, optional
        :func:`fingerprint` of the model that it is to be used with.

    Returns
    -------
    dict
        Its contents; ``policy`` is a policy's plain values.

    Raises
    ------
    ValueError
        If the file is broken, names no known policy, or is of another model.
    """
    try:
        calibration = json.loads(Path(path).read_text("utf-8"))
        policy_from_dict(calibration["policy"])
        describe(calibration.get("promise"))
        if calibration.get("value_range"):
            _ = calibration["fitted_on"]["test_set"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a calibration: {error}; calibrate again or remove it") from None
    there = calibration.get("model")
    if model is not None and there is not None and there != model:
        raise ValueError(
            f"{path} is of another model or vocabulary ({there}, this one is {model}): evaluate dev and calibrate again"
        )
    return calibration


def _value_range(policy: Policy, utterances: Sequence[Mapping]) -> dict | None:
    if not isinstance(policy, ThresholdPolicy):
        return None
    layers = [exit["layer"] for exit in utterances[0]["exits"][:-1]]
    columns = [column[np.isfinite(column)] for column in unsureness(policy, utterances).T]
    ranges = [np.quantile(column, RANGE).tolist() if len(column) else [0.0, 0.0] for column in columns]
    return dict(zip(map(str, layers), ranges, strict=True))
