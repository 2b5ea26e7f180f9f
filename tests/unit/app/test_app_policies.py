# SPDX-License-Identifier: Apache-2.0
"""The page's policies, scores and loop decide as the Python ones do, on cached scores of every kind."""

import math
import re

import numpy as np
import pytest
from unit.app.node import needs_node, run_node

from ee_runtime.cost import ConvStage, CostModel
from ee_runtime.path_scores import path_scores
from ee_runtime.policies import (
    POLICIES,
    Capped,
    FixedExit,
    LearnedThreshold,
    Patience,
    RunningBudget,
    ScoreThreshold,
    TokenBucket,
    policy_from_dict,
)
from ee_runtime.policies.learned import ExitRegression, LearnedScore
from ee_runtime.text.vocabulary import PieceVocabulary
from speechbrain_ee.app.build import PAGE
from speechbrain_ee.app.policies import OF_PAGE, RUNNABLE, check_policy, describe, plain, score_table
from speechbrain_ee.replay.replay import replay

LAYERS = (1, 2, 4, 5, 6)
IN_TABLE = ["entropy", "confidence"]
FRAMES, VOCAB = 9, ["<unk>", "<s>", "</s>", "▁a", "b", "▁", "ñ", "▁مر", "حبا", "👂"]
COST = CostModel(20, [ConvStage(3, 2, 1, 10), ConvStage(5, 2, 2, 7)], [11, 5], [3, 100, 1], 40, [1, 1, 2, 1, 1])


class Output:
    """One utterance at one exit, for the Python scores."""

    def __init__(self, path, probs):
        self.best_paths, self.best_probs = [path], [probs]


def one_utterance(rng, number):
    """Return an utterance as in `utterances.jsonl`, with the paths that its scores come from."""
    num_frames = int(rng.integers(1, 200))
    macs, static = COST.exit_macs(num_frames), COST.exit_macs(num_frames, 1)
    exits, before = [], None
    path = rng.integers(0, len(VOCAB), FRAMES).tolist()
    for index, layer in enumerate(LAYERS):
        if rng.random() < 0.5:  # otherwise this exit agrees with the one before
            path = [int(rng.integers(0, len(VOCAB))) if rng.random() < 0.3 else token for token in path]
        probs = rng.random(FRAMES).tolist()
        if rng.random() < 0.05:
            probs[3] = math.nan
        output = Output(path, probs)
        # Quarters give ties with the thresholds.
        drawn = [rng.integers(0, 5) / 4 if rng.random() < 0.5 else rng.random() for _ in range(3)]
        scores = dict(zip(["entropy", "confidence", "change"], map(float, drawn), strict=True))
        if rng.random() < 0.1:
            scores = dict.fromkeys(scores, math.nan)
        if index == 0:
            scores["change"] = 1.0
        scores |= path_scores(output, before, ["agreement", "token_rate"])[0]
        exits.append({"layer": layer, "scores": scores, "errors": {"S": 0, "D": 0, "I": 0}, "path": path})
        exits[-1] |= {"probs": probs, "macs": macs[index], "static_macs": static[index]}
        before = output
    return {"id": str(number), "duration": num_frames / 50, "num_frames": num_frames, "num_words": 1, "exits": exits}


def learned(rng, names, *, reads_duration):
    def regression(place):
        size = 3 * len(names) * (1 if place == 0 else 2) + reads_duration
        numbers = [rng.normal(size=size).round(3).tolist() for _ in range(len(LAYERS))]
        return ExitRegression(
            numbers[0],
            [1.5] * size,
            numbers[1 : len(LAYERS) - place],
            rng.normal(size=len(LAYERS) - 1 - place).tolist(),
        )

    return LearnedScore(
        list(names), list(LAYERS), [regression(place) for place in range(len(LAYERS) - 1)], True, reads_duration
    )


def policies():
    rng = np.random.default_rng(1)
    thresholds = (
        0.0,
        0.25,
        0.5,
        0.61,
        1.0,
        math.inf,
        -math.inf,
        [0.5, None, 0.25, 0.3, None],
        [None, 0.75, None, 0.8, 0.1],
    )
    found = [FixedExit(), *map(FixedExit, LAYERS)]
    for score in (*IN_TABLE, "change", "agreement"):
        found += [ScoreThreshold(score, threshold) for threshold in thresholds]
    found += [ScoreThreshold("confidence", 0.5, guarded=True)]
    found += [Patience(1), Patience(2), Patience(3), Patience([1, None, 2, 2, None], level=0.8)]
    for names in (("entropy",), ("confidence", "agreement", "token_rate", "change")):
        for reads_duration in (False, True):
            score = learned(rng, names, reads_duration=reads_duration)
            found += [LearnedThreshold(score, threshold) for threshold in (-1.0, 0.0, [2.0, None, 1.0, 0.7, 0.5])]
    inner = [
        FixedExit(),
        ScoreThreshold("entropy", 0.25),
        ScoreThreshold("confidence", [None, 0.5, None, None, None]),
        Patience(1),
    ]
    for one in inner:
        found += [
            Capped(one, max_layer=2),
            Capped(one, macs_per_s=6_000),
            Capped(one, max_layer=4, macs_per_s=4_000.5),
        ]
    found.append(Capped(Capped(inner[1], max_layer=4), macs_per_s=5_000))
    return found


REPLAY = """
import { makePolicy } from "./policy.js";
import { runSegments } from "./segments.js";
const { model, scores, policies, utterances } = values;
const toNaN = (numbers) => numbers.map((one) => (one === null ? NaN : one));
async function once(policy, utterance) {
  let at = -1;
  let heads = 0;
  const run = {
    numFrames: utterance.num_frames,
    async advance() { at += 1; },
    async output() {
      heads += 1;
      const exit = utterance.exits[at];
      const table = toNaN(model.score_names.map((name) => exit.scores[name]));
      const change = async (previous) => (exit.scores.change === null ? NaN : exit.scores.change);
      return { path: exit.path, probs: toNaN(exit.probs), table, change };
    },
  };
  const rows = [];
  const options = { run, model, policy: makePolicy(policy, scores), duration: utterance.duration, clock: () => 0 };
  const result = await runSegments({ ...options, onExit: (row) => rows.push(row) });
  const { exitIndex, macs, text } = result;
  return [exitIndex, heads, macs, text, at, rows.length];
}
const results = [];
for (const policy of policies) {
  const row = [];
  for (const utterance of utterances) row.push(await once(policy, utterance));
  results.push(row);
}
give(results);
"""


def nulls(value):
    """Return values with null in place of NaN, as in `utterances.jsonl`."""
    if isinstance(value, dict):
        return {name: nulls(one) for name, one in value.items()}
    if isinstance(value, list):
        return [nulls(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@needs_node
def test_the_page_takes_the_exits_of_every_policy(tmp_path):
    rng = np.random.default_rng(0)
    utterances, all_of_them = [one_utterance(rng, number) for number in range(40)], policies()
    model = {"exit_layers": list(LAYERS), "score_names": IN_TABLE, "cost": COST._asdict(), "vocab": VOCAB}
    values = {"model": model, "scores": score_table(all_of_them), "policies": [plain(one) for one in all_of_them]}
    found = run_node(tmp_path, REPLAY, values | {"utterances": nulls(utterances)})
    vocabulary, exits_seen = PieceVocabulary(VOCAB), set()
    for policy, row in zip(all_of_them, found, strict=True):
        # What a policy does not read is not there: a look of the live run has the scores of heads that were run only.
        taken = replay(policy, utterances).exit_indices
        assert [one[0] for one in row] == taken, policy
        exits_seen |= set(taken)
        heads = [policy.needs_head(index, LAYERS) for index in range(len(LAYERS))]
        for utterance, index, (_, num_heads, macs, text, segments, rows) in zip(utterances, taken, row, strict=True):
            assert num_heads == sum(heads[:index]) + 1
            assert macs == COST.exit_macs(utterance["num_frames"], num_heads)[index]
            assert text == vocabulary.decode(collapsed(utterance["exits"][index]["path"]))
            assert segments == index, "a segment above the exit was run"
            assert rows == index + 1
    assert exits_seen == set(range(len(LAYERS)))


def collapsed(path):
    return [token for at, token in enumerate(path) if token != 0 and (at == 0 or path[at - 1] != token)]


def test_the_page_knows_the_policies_that_a_build_allows():
    script = (PAGE / "policy.js").read_text("utf-8")
    (block,) = re.findall(r"export const POLICIES = \{\n(.*?)\n\};", script, re.DOTALL)
    assert re.findall(r"^  (\w+):", block, re.MULTILINE) == [kind.name for kind in RUNNABLE]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            TokenBucket(FixedExit(), macs_per_s=1, capacity=1),
            "'token_bucket' of calibration.json: it runs fixed_exit, ",
        ),
        (RunningBudget(Patience(1), thresholds=[3, 1], macs_per_s=9), "cannot run the exit policy 'running_budget'"),
        (Capped(TokenBucket(FixedExit(), macs_per_s=1, capacity=1), max_layer=2), "exit policy 'token_bucket'"),
        (Capped(FixedExit(), deadline_ms=3, seconds_to_exit=[(0, 1)] * 5), "the limit deadline_ms of calibration.json"),
        (ScoreThreshold("posterior", 0.9), "exit score 'posterior' of calibration.json"),
        (ScoreThreshold("attention_entropy", 0.9), "exit score 'attention_entropy' of calibration.json"),
        (ScoreThreshold("entropy", [0.1, 0.2]), "got 2 thresholds for 5 exits"),
        (FixedExit(3), "exit layer 3 is not an exit"),
    ],
)
def test_a_policy_that_the_page_cannot_run_is_refused_by_name(policy, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_policy(policy, LAYERS, IN_TABLE)


def test_every_policy_is_allowed_or_refused():
    for policy in policies():
        check_policy(policy, LAYERS, IN_TABLE)
    assert {kind.name for kind in RUNNABLE} | {"running_budget", "token_bucket"} == set(POLICIES)
    assert set(OF_PAGE) == {"change", "agreement", "token_rate"}


def test_plain_values_are_those_of_the_policy():
    for policy in policies():
        values = plain(policy)
        if "Infinity" not in str(values):
            assert policy_from_dict(values).to_dict() == policy.to_dict()


def test_descriptions_name_score_direction_and_limits():
    assert describe(ScoreThreshold("confidence", 0.9), LAYERS) == "stops when confidence is at least 0.9"
    assert describe(Patience(2), LAYERS) == "stops when the texts of 3 exits in a row agree"
    assert describe(ScoreThreshold("entropy", [0.1, 0.2, 0.3, 0.4, None]), LAYERS).endswith(
        "at most a threshold of the exit"
    )
    capped = Capped(ScoreThreshold("entropy", 0.03), max_layer=4, macs_per_s=2e8)
    assert describe(capped, LAYERS) == (
        "stops when entropy is at most 0.03, at most layer 4, at most 2e+08 MACs per second of audio"
    )
