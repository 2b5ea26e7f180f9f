# SPDX-License-Identifier: Apache-2.0
"""The page's audio, text and cost are those of the Python runtime."""

import numpy as np
from unit.app.node import needs_node, run_node

from ee_runtime.audio.mixing import mix_down
from ee_runtime.cost import ConvStage, CostModel
from ee_runtime.long_audio import cut_at_pauses
from ee_runtime.text.agreement import token_agreement
from ee_runtime.text.ctc_paths import collapse
from ee_runtime.text.vocabulary import PieceVocabulary

RATE = 1000
PIECES = ["<unk>", "<s>", "</s>", "▁", "▁a", "b", "▁ä", "ß▁", "▁שלום", "👂", "é", "\u3000"]

SCRIPT = """
import { collapse, toText, tokenAgreement } from "./ctc.js";
import { exitMacs } from "./cost.js";
import { cutAtPauses } from "./long_audio.js";
import { mixDown } from "./mixing.js";
give({
  texts: values.paths.map((path) => toText(collapse(path), values.pieces)),
  tokens: values.paths.map((path) => collapse(path)),
  agreements: values.paths.map((path, i) => tokenAgreement(collapse(path), collapse(values.paths.at(i - 1)))),
  macs: values.costs.map((cost) => {
    return [1, 7, 100, 3000].map((frames) => [exitMacs(cost, frames), exitMacs(cost, frames, 1)]);
  }),
  cuts: values.waveforms.map(([samples, longest]) => {
    return cutAtPauses(Float32Array.from(samples), values.rate, longest).map((part) => part.length);
  }),
  mixes: values.recordings.map((channels) => Array.from(mixDown(channels.map((one) => Float32Array.from(one))))),
});
"""


def waveforms(rng):
    """Return speech-like noise with pauses, and the longest part in seconds."""
    found = []
    for seconds, longest in ((50, 20), (61.3, 30), (5, 20), (20, 20), (12, 5), (33, 14.98)):
        samples = rng.normal(size=int(seconds * RATE)).astype(np.float32) / 4
        for start in rng.integers(0, len(samples), 6):
            samples[start : start + 300] *= 0.01
        found.append((samples, longest))
    return found


def recordings(rng):
    one, other = rng.normal(size=(2, 200)).astype(np.float32) / 4
    silent = np.zeros_like(one)
    inverted = [one, -one]
    return [[one], [one, other], [one, silent], [silent, silent], inverted, [other, one, -one, silent], [3 * one, one]]


@needs_node
def test_text_cost_cuts_and_channels(tmp_path):
    rng = np.random.default_rng(0)
    paths = [rng.integers(0, len(PIECES), rng.integers(0, 12)).repeat(2).tolist() for _ in range(50)]
    costs = [
        CostModel(1, [ConvStage(3, 2, 1, 10)], [0, 5], [0, 100, 1], 7, [2, 1]),
        CostModel(400, [ConvStage(10, 5, 0, 6), ConvStage(3, 2, 0, 9)], [3, 5], [1, 2, 3], 7, [1, 1, 4]),
    ]
    cut, mixed = waveforms(rng), recordings(rng)
    values = {
        "pieces": PIECES,
        "paths": paths,
        "costs": [cost._asdict() for cost in costs],
        "rate": RATE,
        "waveforms": [[samples.tolist(), longest] for samples, longest in cut],
        "recordings": [[channel.tolist() for channel in channels] for channels in mixed],
    }
    found = run_node(tmp_path, SCRIPT, values)
    vocabulary, tokens = PieceVocabulary(PIECES), [collapse(path) for path in paths]
    assert found["tokens"] == tokens
    assert found["texts"] == [vocabulary.decode(one) for one in tokens]
    assert found["agreements"] == [token_agreement(one, tokens[i - 1]) for i, one in enumerate(tokens)]
    assert found["macs"] == [
        [[cost.exit_macs(frames), cost.exit_macs(frames, 1)] for frames in (1, 7, 100, 3000)] for cost in costs
    ]
    parts = [[len(part) for part in cut_at_pauses(samples, RATE, max_seconds=longest)] for samples, longest in cut]
    assert found["cuts"] == parts
    assert max(map(len, parts)) > 2
    for channels, result in zip(mixed, found["mixes"], strict=True):
        block = np.stack(channels, axis=1)
        expected = mix_down(lambda block=block: [block], channels=len(channels), is_float=True, warn=lambda _: None)
        np.testing.assert_allclose(result, np.concatenate(list(expected)), atol=1e-6)
