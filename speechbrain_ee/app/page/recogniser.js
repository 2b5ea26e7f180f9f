// SPDX-License-Identifier: Apache-2.0
// The page's side of the worker that runs the model.

const MAX_THREADS = 4;
const MIN_PARAMETERS = 1e7; // the graphs of smaller models take longer with several threads

export class Recogniser {
  #worker;
  #calls = new Map();
  #numCalls = 0;

  /** Start the worker and load the model; files: contents of the graphs and of onnxruntime-web by name. */
  static async load(app, files, threads = null) {
    const made = new Recogniser();
    await made.#start();
    const graphs = {
      features: files.get(app.graphs.features),
      segments: app.graphs.segments.map((name) => files.get(name)),
      exits: app.graphs.exits.map((name) => files.get(name)),
      change: app.graphs.change === null ? null : files.get(app.graphs.change),
    };
    const isLarge = app.model.params.at(-1) >= MIN_PARAMETERS;
    const several = isLarge && crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
    made.threads = threads ?? several;
    const wasm = files.get("onnxruntime-web/ort-wasm.wasm").buffer;
    await made.#call({ type: "load", app, graphs, wasm, threads: made.threads });
    return made;
  }

  /** Recognise a waveform; see runSegments. onRow is called at each exit. */
  recognise(waveform, policy, compare, onRow) {
    return this.#call({ type: "recognise", waveform, policy, compare }, onRow);
  }

  #start() {
    // A worker from a blob has the page's Content-Security-Policy; a worker from a file would have none.
    const script = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
    const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.#worker = new Worker(address, { type: "module" });
    return new Promise((resolve, reject) => {
      this.#calls.set(0, { resolve, reject });
      this.#worker.onerror = () => this.#fail(new Error("The recogniser has stopped. Reload the page."));
      this.#worker.onmessage = ({ data }) => this.#answer(data);
    }).finally(() => URL.revokeObjectURL(address));
  }

  #call(message, onRow = () => {}) {
    const id = ++this.#numCalls;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, onRow });
      this.#worker.postMessage({ id, ...message });
    });
  }

  #answer({ id, type, row, result, message }) {
    const call = this.#calls.get(id);
    if (type === "exit") return call.onRow(row);
    this.#calls.delete(id);
    return type === "failed" ? call.reject(new Error(message)) : call.resolve(result);
  }

  #fail(error) {
    for (const call of this.#calls.values()) call.reject(error);
    this.#calls.clear();
  }
}
