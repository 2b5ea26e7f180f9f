// SPDX-License-Identifier: Apache-2.0
// Runs the model outside of the page's thread, so that the page stays responsive.

import * as ort from "./onnxruntime-web/ort.js";
import { Graphs } from "./graphs.js";
import { makePolicy } from "./policy.js";
import { runSegments } from "./segments.js";

const WARM_UP_S = 2;
const clock = () => performance.now();
let app = null;
let graphs = null;

async function load(message) {
  app = message.app;
  ort.env.wasm.numThreads = message.threads;
  ort.env.wasm.wasmBinary = message.wasm;
  ort.env.wasm.wasmPaths = {
    mjs: new URL("./onnxruntime-web/ort-wasm.js", import.meta.url).href,
    wasm: new URL("./onnxruntime-web/ort-wasm.wasm", import.meta.url).href,
  };
  ort.env.logLevel = "error";
  graphs = await Graphs.load(ort, message.graphs);
  // The first run of every graph is slow; with it, the times on the page would not be those of later runs.
  const noise = Float32Array.from({ length: WARM_UP_S * app.model.sample_rate }, () => Math.random() / 5 - 0.1);
  const run = await graphs.start(noise);
  for (let previous = null, exit = 0; exit < graphs.exits.length; exit++) {
    await run.advance();
    const output = await run.output();
    if (graphs.change !== null) await output.change(previous);
    previous = output;
  }
  return {};
}

async function recognise({ waveform, policy, compare, onExit }) {
  const begin = clock();
  const run = await graphs.start(waveform);
  return runSegments({
    run,
    model: app.model,
    policy: makePolicy(policy, app.scores),
    duration: waveform.length / app.model.sample_rate,
    startMs: clock() - begin,
    compare,
    onExit,
    clock,
  });
}

self.onmessage = async ({ data }) => {
  try {
    const onExit = (row) => self.postMessage({ id: data.id, type: "exit", row });
    const result = data.type === "load" ? await load(data) : await recognise({ ...data, onExit });
    self.postMessage({ id: data.id, type: "done", result });
  } catch (error) {
    self.postMessage({ id: data.id, type: "failed", message: String(error?.message ?? error) });
  }
};
self.postMessage({ id: 0, type: "started" });
