# SPDX-License-Identifier: Apache-2.0
"""The laws of DESIGN.md, on tiny encoders of every family. Law 7 (resuming) is in tests/recipes/test_train.py."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from unit.models import (
    D_MODEL,
    FAMILIES,
    VOCAB,
    make_asr,
    make_batch,
    make_encoder,
    make_heads_of,
    make_joint_heads,
    make_loss,
)

from ee_runtime.policies import (
    Capped,
    FixedExit,
    LearnedThreshold,
    RunningBudget,
    ScoreThreshold,
    Slowdown,
    TokenBucket,
)
from speechbrain_ee.calibration.fit_learned import fit_learned_score
from speechbrain_ee.inference.ctc_scores import compute_scores, output_scores
from speechbrain_ee.lobes import TransformerExitEncoder, WhisperExitEncoder
from speechbrain_ee.lobes.cost import exit_macs
from speechbrain_ee.model.folder import ModelError, load_config, load_model, save_model
from speechbrain_ee.replay.available_scores import threshold_policies
from speechbrain_ee.replay.replay import replay
from speechbrain_ee.replay.unsureness import unsureness

# float32 sums of some hundred terms of size 1, in another order
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}
LENGTHS = (77, 120, 33, 5)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def count_calls(encoder):
    """Count how often every layer is called."""
    calls = [0] * encoder.num_layers

    def counter(index):
        def count(*_):
            calls[index] += 1

        return count

    for index, layer in enumerate(encoder.layers):
        layer.register_forward_hook(counter(index))
    return calls


@torch.no_grad()
def test_law_1_partial_run_is_the_full_run_cut(family):
    encoder = make_encoder(family)
    feats, lengths = make_batch(family, LENGTHS)
    states, _ = encoder(feats, lengths)
    for stop_at in range(3):
        calls = count_calls(encoder)
        state = encoder.start(feats, lengths)
        for exit_index in range(stop_at + 1):
            state, exit_state = encoder.advance(state)
            assert torch.equal(exit_state, states[exit_index])
        layers_run = encoder.exit_layers[stop_at]
        assert calls == [1] * layers_run + [0] * (4 - layers_run)


@torch.no_grad()
def test_law_1_states_differ_between_exits(family):
    states, _ = make_encoder(family)(*make_batch(family, LENGTHS))
    assert all((a - b).abs().mean() > 0.1 for a, b in zip(states, states[1:], strict=False))


@torch.no_grad()
def test_law_2_last_exit_is_the_stock_encoder(family):
    encoder = make_encoder(family)
    feats, lengths = make_batch(
        family, lengths=(3000,) if family == "whisper" else (77,)
    )  # 30 s, the stock's only length
    states, _ = encoder(feats, lengths)
    assert torch.equal(states[-1], stock_output(encoder, feats, lengths))


def stock_output(encoder, feats, lengths):
    """Return the states of the stock encoder with the same layers for one utterance."""
    if isinstance(encoder, TransformerExitEncoder):
        subsampled, _ = encoder.frontend(feats, lengths)
        return encoder.transformer.encode(subsampled, torch.ones(1))
    inputs = feats.transpose(1, 2) if isinstance(encoder, WhisperExitEncoder) else feats[:, :, 0]
    return encoder.backbone(inputs).last_hidden_state


def test_law_3_gradients_reach_the_layers_below_and_none_above(family):
    encoder, heads = make_encoder(family).train(), make_heads_of(family)
    feats, lengths = make_batch(family, LENGTHS)
    tokens, token_lengths = torch.randint(3, VOCAB, (4, 1)), torch.ones(4, dtype=torch.long)
    for exit_index, exit_layer in enumerate(encoder.exit_layers):
        weights = [float(index == exit_index) for index in range(3)]
        encoder.zero_grad()
        states, frames = encoder(feats, lengths)
        outputs = heads(states, frames, tokens, token_lengths)
        loss, _ = make_loss(family, encoder.exit_layers, weights)(outputs, tokens, token_lengths)
        loss.backward()
        for layer, module in enumerate(encoder.layers, start=1):
            for name, parameter in module.named_parameters():
                reached = parameter.grad is not None and parameter.grad.abs().sum() > 0
                # the bias of keys shifts all scores of a query equally, so softmax gives it no gradient
                if not name.endswith(("in_proj_bias", "k_proj.bias")):
                    assert reached == (layer <= exit_layer), f"layer {layer}, {name}"


@torch.no_grad()
def test_law_4_an_utterance_does_not_depend_on_its_batch(family):
    encoder = make_encoder(family)
    feats, lengths = make_batch(family, LENGTHS)
    in_batch, frames = encoder(feats, lengths)
    for row in range(len(LENGTHS)):
        alone, alone_frames = encoder(feats[row : row + 1, : lengths[row]], lengths[row : row + 1])
        assert alone_frames[0] == frames[row] == alone[0].shape[1]
        for exit_index in range(3):
            torch.testing.assert_close(in_batch[exit_index][row, : frames[row]], alone[exit_index][0], **TOLERANCE)


@torch.no_grad()
def test_law_4_an_utterance_left_over_after_others_exited(family):
    encoder = make_encoder(family)
    feats, lengths = make_batch(family, LENGTHS)
    state, _ = encoder.advance(encoder.start(feats, lengths))
    state = encoder.keep(state, torch.tensor([0, 3]))  # the longest has left
    state, _ = encoder.advance(state)
    state = encoder.keep(state, torch.tensor([0]))
    state, left_over = encoder.advance(state)
    alone, _ = encoder(feats[:1, : lengths[0]], lengths[:1])
    assert left_over.shape == alone[-1].shape
    torch.testing.assert_close(left_over, alone[-1], **TOLERANCE)


def waveforms(seconds=(0.9, 0.3, 0.5, 0.05)):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(int(length * 16000), generator=generator) * 0.1 for length in seconds]


def test_law_4_text_alone_and_in_a_batch(tmp_path, family):
    asr = make_asr(tmp_path, family, policy=ScoreThreshold("entropy", 0.6))
    together = asr.transcribe_waveforms(waveforms())
    alone = [asr.transcribe_waveforms([waveform])[0] for waveform in waveforms()]
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.exit_layer for one in together] == [one.exit_layer for one in alone]
    assert [one.macs for one in together] == [one.macs for one in alone]


def test_law_5_threshold_extremes_give_the_first_and_the_last_exit(tmp_path, family):
    asr = make_asr(tmp_path, family)
    for threshold, layer in ((1.0, 1), (-1.0, 4)):
        results = asr.transcribe_waveforms(waveforms(), policy=ScoreThreshold("entropy", threshold))
        assert [one.exit_layer for one in results] == [layer] * 4


def test_law_6_one_weight_is_the_single_exit_twin(family):
    encoder, heads = make_encoder(family), make_heads_of(family)
    feats, lengths = make_batch(family, LENGTHS)
    tokens, token_lengths = torch.randint(3, VOCAB, (4, 1)), torch.ones(4, dtype=torch.long)
    for exit_index, exit_layer in enumerate(encoder.exit_layers):
        twin = make_encoder(family, num_layers=exit_layer, exit_layers=[exit_layer], seed=9)
        twin_heads = make_heads_of(family, [exit_layer])
        shared = {name: value for name, value in encoder.state_dict().items() if name in twin.state_dict()}
        twin.load_state_dict(shared)
        for ours, theirs in zip(twin_heads.modules_of(0), heads.modules_of(exit_index), strict=True):
            ours.load_state_dict(theirs.state_dict())
        weights = [float(index == exit_index) for index in range(3)]
        targets = (tokens, token_lengths)
        states, frames = encoder(feats, lengths)
        loss, _ = make_loss(family, [1, 2, 4], weights)(heads(states, frames, *targets), *targets)
        states, frames = twin(feats, lengths)
        twin_loss, _ = make_loss(family, [exit_layer])(twin_heads(states, frames, *targets), *targets)
        assert torch.equal(loss, twin_loss)
        assert torch.isfinite(loss) and loss > 0


def saved(tmp_path, family="conformer"):
    asr = make_asr(tmp_path, family)
    for statistics in asr.mods.features.state_dict().values():
        statistics += 1.5  # statistics must be saved
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    return asr, tmp_path / "model"


@torch.no_grad()
def test_law_8_saved_and_loaded_gives_the_same(tmp_path, family):
    asr, folder = saved(tmp_path, family)
    loaded = type(asr).from_hparams(folder)
    wavs = pad_sequence(waveforms(), batch_first=True)
    num_samples = torch.tensor([len(one) for one in waveforms()])
    for model in (asr, loaded):
        model.states, model.lengths = model.mods.encoder(*model.mods.features(wavs, num_samples))
    ours, theirs = (model.mods.heads(model.states, model.lengths) for model in (asr, loaded))
    for our_exit, their_exit in zip(ours, theirs, strict=True):
        assert torch.equal(our_exit.log_probs, their_exit.log_probs)
    assert [one.text for one in asr.transcribe_waveforms(waveforms())] == [
        one.text for one in loaded.transcribe_waveforms(waveforms())
    ]


@pytest.mark.parametrize(("num_exits", "word"), [(2, "in excess"), (4, "lacks")])
def test_law_8_a_missing_or_additional_head_is_refused_by_name(tmp_path, num_exits, word):
    _, folder = saved(tmp_path)
    config = load_config(folder / "config.json")
    config["heads"]["num_exits"] = num_exits
    with pytest.raises(ModelError, match=r"heads\.heads\.[23]") as raised:
        load_model(config, folder / "model.safetensors")
    message = str(raised.value)
    assert "\n" not in message
    assert word in message


@pytest.mark.parametrize(("wanted", "word"), [("shared", "in excess"), ("per_exit", "lacks")])
def test_law_8_a_missing_or_additional_decoder_is_refused_by_name(tmp_path, wanted, word):
    asr = make_asr(tmp_path, "conformer_aed")
    options = {"decoders": "per_exit" if wanted == "shared" else "shared"}
    asr.mods["heads"] = make_joint_heads((1, 2, 4), asr.hparams.tokenizer.vocab_size, **options)
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    config = load_config(tmp_path / "model" / "config.json")
    config["heads"]["decoders"] = wanted
    with pytest.raises(ModelError, match=r"heads\.decoders\.1") as raised:
        load_model(config, tmp_path / "model" / "model.safetensors")
    assert word in str(raised.value) and "\n" not in str(raised.value)


@torch.no_grad()
def test_law_10_scores_ignore_padding(family):
    encoder, heads = make_encoder(family), make_heads_of(family)
    feats, lengths = make_batch(family, LENGTHS)
    states, frames = encoder(feats, lengths)
    for exit_index, output in enumerate(heads(states, frames)):
        scores = compute_scores(output)
        for row in range(len(LENGTHS)):
            alone, _ = encoder(feats[row : row + 1, : lengths[row]], lengths[row : row + 1])
            own_frames = frames[row : row + 1]
            single = compute_scores(heads.head(exit_index, alone[exit_index], own_frames))
            for name, values in scores.items():
                torch.testing.assert_close(values[row], single[name][0], **TOLERANCE)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 12])
def test_law_10_live_equals_replay_for_every_policy_order_and_size(tmp_path, family, batch_size):
    asr = make_asr(tmp_path, family)
    generator = torch.Generator().manual_seed(11)
    audio = [torch.randn(int(length), generator=generator) * 0.1 for length in torch.linspace(2000, 20000, 12)]
    cache = [replay_line(asr, waveform) for waveform in audio]
    order = torch.randperm(12, generator=generator).tolist()
    learned = fit_learned_score(cache, ["entropy", "confidence", "agreement", "change", "token_rate"])
    by_threshold = [*threshold_policies(cache), LearnedThreshold(learned, 0.0)]
    policies = [one.with_threshold(far_from_every_value(one, cache)) for one in by_threshold]
    assert len(policies) >= 11
    before_decoding = [line["exits"][1]["macs"] - line["exits"][1].get("decoder_macs", 0) for line in cache]
    rates = [macs / line["duration"] for macs, line in zip(before_decoding, cache, strict=True)]
    caps = {"macs_per_s": float(np.median(rates)) * 1.001}
    taken = {}
    capped = [Capped(one, **caps) for one in (policies[0], FixedExit())] + [Capped(FixedExit(), max_layer=2)]
    for policy in (FixedExit(2), FixedExit(), *policies, *capped):
        replayed = replay(policy, cache)
        expected = [asr.exit_layers[index] for index in replayed.exit_indices]
        live, macs = {}, 0
        for first in range(0, 12, batch_size):
            rows = order[first : first + batch_size]
            results = asr.transcribe_waveforms([audio[row] for row in rows], policy=policy)
            live |= {row: result.exit_layer for row, result in zip(rows, results, strict=True)}
            macs += sum(result.macs for result in results)
        assert [live[row] for row in range(12)] == expected, policy.label
        if policy in policies:  # the others do not read every exit
            assert macs == pytest.approx(replayed.macs_per_s * sum(line["duration"] for line in cache)), policy.label
        taken[policy.label] = set(expected)
    assert sum(len(found) > 1 for found in taken.values()) >= 8, "the thresholds must split the exits"


def test_law_10_a_running_budget_and_a_deadline_too_in_the_same_order_with_a_recorded_clock(tmp_path, monkeypatch):
    asr = make_asr(tmp_path)
    generator = torch.Generator().manual_seed(5)
    audio = [torch.randn(int(length), generator=generator) * 0.1 for length in torch.linspace(2000, 20000, 20)]
    cache = [replay_line(asr, waveform) for waveform in audio]
    entropy = ScoreThreshold("entropy", 0.0)
    values = np.quantile(unsureness(entropy, cache), np.linspace(0, 1, 21)) + 1e-4  # different from every score
    rate = float(np.mean([line["exits"][1]["macs"] / line["duration"] for line in cache]))
    times = [(0, 2), (0, 4), (0, 8)]
    makes = [  # a policy has state: each run needs a new one
        lambda: RunningBudget(entropy, thresholds=values.tolist(), macs_per_s=rate, step=0.1),
        lambda: Capped(FixedExit(), deadline_ms=4500, seconds_to_exit=times, slowdown=Slowdown(miss=0.2)),
        lambda: TokenBucket(FixedExit(), macs_per_s=rate / 20, capacity=rate),
    ]
    for make in makes:
        monkeypatch.setattr("speechbrain_ee.inference.asr.time.perf_counter", itertools.count().__next__)
        policy = make()
        live = [asr.transcribe_waveforms([waveform], policy=policy)[0].exit_layer for waveform in audio]
        replayed = replay(make(), cache, clock=itertools.count().__next__)
        assert live == [asr.exit_layers[index] for index in replayed.exit_indices]
        assert len(set(live)) > 1, policy


def far_from_every_value(policy, cache):
    """Return a threshold per exit, in the widest gap between the central scores."""
    thresholds = []
    for values in unsureness(policy, cache).T:
        values = np.unique(values)
        gaps = [(b - a, (a + b) / 2) for a, b in zip(values, values[1:], strict=False)]
        middle = max(gaps[2:-2] or gaps or [(0, values[0] - 1)])[1]
        thresholds.append(-middle if policy.higher_is_surer else middle)
    return [*thresholds, 0.0]


@torch.no_grad()
def replay_line(asr, waveform):
    """Return the line of utterances.jsonl of a waveform without text."""
    feats, num_frames = asr.mods.features(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    states, lengths = asr.mods.encoder(feats, num_frames)
    outputs = asr.mods.heads(states, lengths)
    pairs = zip(outputs, [None, *outputs], strict=False)
    decoded = [asr.decoder.decode(output)[0] for output in outputs]
    scores = [output_scores(*pair)[0] | text.scores for pair, text in zip(pairs, decoded, strict=True)]
    macs = exit_macs(asr.mods.encoder, asr.mods.heads, int(num_frames))
    exits = [
        {
            "layer": layer,
            "errors": {"S": int(100 * one["entropy"]), "D": 0, "I": 0},  # something for a score to learn
            "scores": one,
            "macs": cost + text.macs,
            "decoder_macs": text.macs,
        }
        for layer, one, cost, text in zip(asr.exit_layers, scores, macs, decoded, strict=True)
    ]
    duration = len(waveform) / asr.mods.features.sample_rate
    return json.loads(json.dumps({"id": str(len(waveform)), "num_words": 1, "duration": duration, "exits": exits}))


def test_families_have_the_width_that_heads_expect(family):
    states, _ = make_encoder(family)(*make_batch(family, LENGTHS))
    assert all(state.shape[-1] == D_MODEL for state in states)
