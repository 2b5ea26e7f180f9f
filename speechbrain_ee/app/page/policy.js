// SPDX-License-Identifier: Apache-2.0
// Exit policies: decide after each exit whether an utterance stops, as in ee_runtime.policies.
//
// A look is {exitIndex, exitLayers, scores, macs, facts}: `scores` has one object for each exit whose head was run so
// far, the current exit last; `macs` are the MACs up to each exit; `facts.duration` is the length in seconds.

/** The policies that this page can run; speechbrain_ee.app.effort refuses every other one. */
export const POLICIES = {
  fixed_exit: (values) => new FixedExit(values),
  score_threshold: (values, scores) => new ScoreThreshold(values, scores),
  patience: (values) => new Patience(values),
  learned: (values) => new LearnedThreshold(values),
  capped: (values, scores) => new Capped(values, scores),
};

/**
 * Make a policy from the plain values of app.json.
 *
 * scores: for each name that a policy compares, {higher_is_surer, needs_previous}.
 */
export function makePolicy(values, scores) {
  if (!Object.hasOwn(POLICIES, values.policy)) throw new Error(`unknown exit policy ${values.policy}`);
  return POLICIES[values.policy](values, scores);
}

const isLast = (look) => look.exitIndex === look.exitLayers.length - 1;

/** Return one score of an exit; null in a file is NaN. */
function scoreValue(scores, name) {
  if (!Object.hasOwn(scores, name)) throw new Error(`exit score ${name} was not computed`);
  return scores[name] === null ? NaN : scores[name];
}

class FixedExit {
  scoreNames = [];

  constructor({ layer = null }) {
    this.layer = layer;
  }

  needsHead(exitIndex, exitLayers) {
    if (this.layer === null) return exitIndex === exitLayers.length - 1;
    if (!exitLayers.includes(this.layer)) throw new Error(`layer ${this.layer} is not an exit of this model`);
    return exitLayers[exitIndex] === this.layer;
  }

  stop(look) {
    return this.needsHead(look.exitIndex, look.exitLayers) || isLast(look);
  }

  cuts() {
    return false;
  }

  value() {
    return null;
  }

  reason(look) {
    return { kind: isLast(look) ? "last" : "fixed" };
  }
}

/** Stops at the first exit where `value` reaches the threshold; NaN never stops. */
class ThresholdPolicy {
  higherIsSurer = false;
  name = "";

  constructor(threshold) {
    const toNumber = (value) => (value === null ? null : Number(value)); // app.json has infinity as text
    this.threshold = Array.isArray(threshold) ? threshold.map(toNumber) : toNumber(threshold);
  }

  thresholdAt(exitIndex, exitLayers) {
    if (!Array.isArray(this.threshold)) return this.threshold;
    if (this.threshold.length !== exitLayers.length) throw new Error("the thresholds do not fit the exits");
    return this.threshold[exitIndex];
  }

  needsHead(exitIndex, exitLayers) {
    this.thresholdAt(exitIndex, exitLayers);
    return true;
  }

  stop(look) {
    const threshold = this.thresholdAt(look.exitIndex, look.exitLayers);
    if (isLast(look)) return true;
    if (threshold === null) return false;
    const value = this.value(look);
    return this.higherIsSurer ? value >= threshold : value <= threshold;
  }

  cuts() {
    return false;
  }

  reason(look) {
    if (isLast(look)) return { kind: "last" };
    const threshold = this.thresholdAt(look.exitIndex, look.exitLayers);
    return { kind: "value", name: this.name, value: this.value(look), threshold, higherIsSurer: this.higherIsSurer };
  }
}

class ScoreThreshold extends ThresholdPolicy {
  constructor({ score, threshold, guarded = false }, scores) {
    super(threshold);
    if (!Object.hasOwn(scores, score)) throw new Error(`unknown exit score ${score}`);
    this.name = score;
    this.guarded = guarded;
    this.scoreNames = [score];
    this.higherIsSurer = scores[score].higher_is_surer;
    this.needsPrevious = scores[score].needs_previous;
  }

  needsHead(exitIndex, exitLayers) {
    const threshold = this.thresholdAt(exitIndex, exitLayers);
    return threshold !== null || exitIndex === exitLayers.length - 1 || this.needsPrevious;
  }

  value(look) {
    const value = scoreValue(look.scores.at(-1), this.name);
    return this.guarded && value === 1 ? NaN : value;
  }
}

class Patience extends ThresholdPolicy {
  higherIsSurer = true;
  name = "agreements in a row";
  scoreNames = ["agreement"];

  constructor({ threshold, level = 1 }) {
    super(threshold);
    this.level = level;
  }

  value(look) {
    let row = 0;
    for (const one of look.scores.toReversed()) {
      if (!(scoreValue(one, "agreement") >= this.level)) break;
      row += 1;
    }
    return row;
  }
}

const SMALLEST = 1e-6;
const SMALLEST_REST = 1e-4;

class LearnedThreshold extends ThresholdPolicy {
  name = "predicted gain";

  constructor({ learned, threshold }) {
    super(threshold);
    this.learned = learned;
    this.scoreNames = learned.score_names;
  }

  needsHead(exitIndex, exitLayers) {
    const fitted = this.learned.exit_layers;
    if (fitted.length !== exitLayers.length || fitted.some((layer, index) => layer !== exitLayers[index])) {
      throw new Error("the learned score was fitted for other exits");
    }
    return super.needsHead(exitIndex, exitLayers);
  }

  /** Return the errors that deeper exits are predicted to save per cost; null at the last exit. */
  value(look) {
    if (isLast(look)) return null;
    const one = this.learned.exits[look.exitIndex];
    const duration = this.learned.reads_duration ? look.facts.duration : null;
    if (this.learned.reads_duration && !duration) throw new Error("the learned score needs the duration");
    const features = exitFeatures(look.scores, this.learned.score_names, duration);
    const z = features.map((value, index) => (value - one.mean[index]) / one.scale[index]);
    const rates = one.weights.map((row, index) => {
      return one.bias[index] + row.reduce((sum, weight, place) => sum + weight * z[place], 0);
    });
    return Math.max(...rates); // NaN if one of them is NaN
  }
}

function exitFeatures(scores, names, duration) {
  const found = [];
  for (const one of scores.slice(-2).toReversed()) {
    for (const name of names) {
      const value = Math.min(1, Math.max(0, scoreValue(one, name))); // NaN stays NaN
      const isOne = Number.isNaN(value) ? NaN : Number(value === 1);
      found.push(Math.log(Math.max(value, SMALLEST)), Math.log(Math.max(1 - value, SMALLEST_REST)), isOne);
    }
  }
  return duration === null ? found : [...found, Math.log(duration)];
}

/** Stops an utterance before the next exit would exceed a layer or a budget; otherwise follows another policy. */
class Capped {
  constructor(values, scores) {
    this.policy = makePolicy(values.of, scores);
    this.maxLayer = values.max_layer ?? null;
    this.macsPerS = values.macs_per_s === undefined ? null : Number(values.macs_per_s);
    this.scoreNames = this.policy.scoreNames;
  }

  needsHead(exitIndex, exitLayers) {
    if (this.maxLayer !== null && this.maxLayer < exitLayers[0]) throw new Error("max_layer is below the first exit");
    return this.policy.needsHead(exitIndex, exitLayers);
  }

  wouldBreakALimit(look) {
    if (isLast(look)) return false;
    const next = look.exitIndex + 1;
    if (this.maxLayer !== null && look.exitLayers[next] > this.maxLayer) return true;
    return this.macsPerS !== null && look.macs[next] > this.macsPerS * look.facts.duration;
  }

  stop(look) {
    return this.wouldBreakALimit(look) || this.policy.stop(look);
  }

  cuts(look) {
    return this.wouldBreakALimit(look) || this.policy.cuts(look);
  }

  value(look) {
    return this.policy.value(look);
  }

  reason(look) {
    return this.wouldBreakALimit(look) ? { kind: "limit" } : this.policy.reason(look);
  }
}
