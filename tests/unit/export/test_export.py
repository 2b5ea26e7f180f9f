# SPDX-License-Identifier: Apache-2.0
"""Law 9: an exported model gives what torch gives at every exit, takes the same exits, and writes the same texts."""

import numpy as np
import pytest
import soundfile
import torch
from unit.models import make_asr

from ee_runtime import EarlyExitRuntime
from ee_runtime.policies import Capped, FixedExit, Patience, ScoreThreshold
from ee_runtime.policies.scores import COMPUTED
from speechbrain_ee.export.export import export_model
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.inference.ctc_scores import output_scores
from speechbrain_ee.model.folder import save_model

pytestmark = pytest.mark.skipif(torch.__version__ < "2.8", reason="export needs torch 2.8 or newer")
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}  # of log-probabilities; both compute in float32, in another order
SECONDS = (1.3, 0.4, 2.1, 0.05)


def noise(seconds, seed=0):
    return np.random.default_rng(seed).standard_normal(int(seconds * 16000), dtype=np.float32) / 10


def waveforms():
    return [noise(seconds, seed) for seed, seconds in enumerate(SECONDS)]


@pytest.fixture(scope="module", params=["conformer", "conformer_relpos", "transformer"])
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    # Every graph takes seconds to export.
    depth = (1,) if request.param == "transformer" else (1, 3)
    asr = make_asr(folder, request.param, num_layers=depth[-1], exit_layers=depth)
    save_model(folder / "model", asr.mods, tokenizer=folder / "tokenizer.model")
    asr = EarlyExitASR.from_hparams(folder / "model")
    export_model(asr, folder / "export")
    return asr, EarlyExitRuntime(folder / "export", threads=1)


@torch.inference_mode()
def test_law_9_every_exit_gives_the_log_probabilities_and_scores_of_torch(pair):
    asr, runtime = pair
    run, num_frames = asr.start(asr.make_batch(asr.check_waveforms(waveforms())))
    other, other_frames = runtime.start(runtime.make_batch(waveforms()))
    assert num_frames == other_frames
    before = other_before = None
    for _ in asr.exit_layers:
        run.advance()
        other.advance()
        output, found = run.output(), other.output()
        for row, frames in enumerate(output.lengths.tolist()):
            expected = output.log_probs[row, :frames].numpy()
            np.testing.assert_allclose(found.log_probs[row, :frames], expected, **TOLERANCE)
        scores = output_scores(output, before, names=COMPUTED)
        for expected, got in zip(scores, other.scores(found, other_before, COMPUTED), strict=True):
            assert got == pytest.approx(expected, abs=1e-4)
        before, other_before = output, found


@pytest.mark.parametrize(
    "policy",
    [FixedExit(), FixedExit(1), Patience(2), ScoreThreshold("change", 0.3), Capped(FixedExit(), max_layer=1)],
)
def test_the_runtime_writes_what_torch_writes(pair, policy):
    asr, runtime = pair
    expected = asr.transcribe_waveforms(waveforms(), policy=policy)
    for one, found in zip(expected, runtime.transcribe_waveforms(waveforms(), policy=policy), strict=True):
        assert (found.text, found.exit_layer, found.macs) == (one.text, one.exit_layer, one.macs)
        assert [word.start for word in found.words] == [word.start for word in one.words]


def test_the_same_exits_wherever_the_score_is_not_at_the_threshold(pair):
    asr, runtime = pair
    never = ScoreThreshold("entropy", -1.0)
    ordered = sorted(
        one.policy_value
        for layer in asr.exit_layers
        for one in asr.transcribe_waveforms(waveforms(), policy=never, max_layer=layer)
    )
    for low, high in zip(ordered, ordered[1:], strict=False):
        if high - low < 1e-3:
            continue
        policy = ScoreThreshold("entropy", (low + high) / 2)
        layers = [[one.exit_layer for one in model.transcribe_waveforms(waveforms(), policy=policy)] for model in pair]
        assert layers[0] == layers[1]


def test_one_utterance_of_any_length_and_alone(pair):
    asr, runtime = pair
    for samples in (1, 100, 400, 799, 16001):
        (expected,), (found,) = (model.transcribe_waveforms([noise(2)[:samples]]) for model in pair)
        assert (found.text, found.macs) == (expected.text, expected.macs)


@pytest.mark.parametrize("rate", [8000, 16000, 44101])
def test_a_file_of_any_rate_gives_the_same_text(pair, tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.stack([noise(5)[: rate * 2]] * 2, 1), rate)
    expected, found = (model.transcribe_file(tmp_path / "a.wav") for model in pair)
    assert found.text == expected.text


def test_segments_above_the_deepest_exit_are_not_loaded(pair):
    asr, runtime = pair
    other = EarlyExitRuntime(runtime.export.folder, threads=1)
    other.transcribe_waveforms([noise(1.0)], policy=FixedExit(1))
    assert ["_session" in vars(graph) for graph in other._segments] == [layer == 1 for layer in asr.exit_layers]
