// SPDX-License-Identifier: Apache-2.0
// The graphs of an export in onnxruntime-web, for one utterance at a time, as in ee_runtime.onnx_run.

/** The sessions of a model. */
export class Graphs {
  /** graphs: {features, segments, exits, change}, each a Uint8Array or a list of them; change can be null. */
  static async load(ort, graphs) {
    const made = new Graphs();
    made.ort = ort;
    const load = (bytes) => ort.InferenceSession.create(bytes, OPTIONS);
    made.features = await load(graphs.features);
    made.segments = [];
    for (const bytes of graphs.segments) made.segments.push(await load(bytes));
    made.exits = [];
    for (const bytes of graphs.exits) made.exits.push(await load(bytes));
    made.change = graphs.change === null ? null : await load(graphs.change);
    return made;
  }

  /** Compute the features of a waveform (Float32Array); return its run before the first segment. */
  async start(waveform) {
    const { ort } = this;
    const { feats, num_frames } = await this.features.run({
      wavs: new ort.Tensor("float32", waveform, [1, waveform.length]),
      num_samples: lengthTensor(ort, waveform.length),
    });
    return new Run(this, feats, num_frames);
  }
}

const OPTIONS = {
  executionProviders: ["wasm"],
  graphOptimizationLevel: "all",
  enableMemPattern: false, // plans memory for one length, and nearly every recording has another
};

const lengthTensor = (ort, length) => new ort.Tensor("int64", BigInt64Array.of(BigInt(length)), [1]);

/** An encoder with the features of one utterance. */
class Run {
  constructor(graphs, feats, numFrames) {
    this.graphs = graphs;
    this.x = feats;
    this.lengths = numFrames;
    this.numFrames = Number(numFrames.data[0]);
    this.segmentsRun = 0;
  }

  /** Run the next segment. */
  async advance() {
    const { y, out_lengths } = await this.graphs.segments[this.segmentsRun].run({ x: this.x, lengths: this.lengths });
    this.x = y;
    this.lengths = out_lengths ?? this.lengths;
    this.segmentsRun += 1;
  }

  /** Run the head of the exit that was reached. */
  async output() {
    const inputs = { x: this.x, lengths: this.lengths };
    const found = await this.graphs.exits[this.segmentsRun - 1].run(inputs);
    const frames = Number(this.lengths.data[0]);
    const first = (tensor) => Array.from(tensor.data.subarray(0, frames), Number);
    const output = {
      path: first(found.best_tokens),
      probs: first(found.best_log_probs).map(Math.exp),
      table: Array.from(found.scores.data),
      logProbs: found.log_probs,
    };
    output.change = (previous) => this.changeFrom(output, previous);
    return output;
  }

  async changeFrom(output, previous) {
    if (previous === null) return 1 + 0 * output.probs.reduce((sum, prob) => sum + prob, 0); // NaN if a frame is NaN
    const inputs = { log_probs: output.logProbs, previous_log_probs: previous.logProbs, lengths: this.lengths };
    return (await this.graphs.change.run(inputs)).change.data[0];
  }
}
