// SPDX-License-Identifier: Apache-2.0
// Run a segment, look, decide: the loop of ee_runtime.segments for one utterance.

import { collapse, pathScores, toText } from "./ctc.js";
import { exitMacs } from "./cost.js";

const PATH_SCORES = ["agreement", "token_rate"];

/**
 * Run segment after segment until the policy stops the utterance.
 *
 * run: {numFrames, advance(), output()}, the encoder with the features of the utterance; output() returns {path, probs,
 * table, change(previous)}. model: exit_layers, score_names, cost and vocab of app.json. duration: seconds. onExit is
 * called with a row for each exit that was reached. compare: whether the remaining segments are run afterwards, which
 * measures what full depth takes on this device.
 *
 * Returns {exitIndex, text, macs, fullMacs, ms, full}: `full` is null, or {text, ms} at full depth.
 */
export async function runSegments({ run, model, policy, duration, startMs = 0, compare = false, onExit, clock }) {
  const exitLayers = model.exit_layers;
  const last = exitLayers.length - 1;
  const macs = exitMacs(model.cost, run.numFrames);
  const scores = [];
  let previous = null;
  let output = null;
  let ms = startMs;
  let segmentsMs = startMs; // full depth runs no head but the last
  let headMs = 0;
  let exitIndex = -1;
  let text = "";
  let isStopped = false;
  const timed = async (work) => {
    const begin = clock();
    const result = await work();
    return [result, clock() - begin];
  };
  const look = () => ({ exitIndex, exitLayers, scores, macs, facts: { duration } });
  const runHead = async () => {
    const [, took] = await timed(async () => {
      output = await run.output();
      scores.push(await exitScores(output, previous, policy.scoreNames, model.score_names));
      text = toText(collapse(output.path), model.vocab);
    });
    headMs = took;
    ms += took;
  };
  while (!isStopped) {
    exitIndex += 1;
    const [, took] = await timed(() => run.advance());
    ms += took;
    segmentsMs += took;
    let hasHead = true;
    if (exitIndex === last || policy.needsHead(exitIndex, exitLayers)) {
      await runHead();
      previous = output;
      isStopped = policy.stop(look()) || exitIndex === last;
    } else if (policy.cuts(look())) {
      await runHead();
      isStopped = true;
    } else {
      hasHead = false;
    }
    const reason = hasHead ? policy.reason(look()) : { kind: "unread" };
    onExit({ exitIndex, layer: exitLayers[exitIndex], text: hasHead ? text : null, reason, isStopped, ms });
  }
  const taken = exitIndex;
  let full = compare ? { text, ms: segmentsMs + headMs } : null;
  if (compare && taken < last) full = await rest({ run, model, timed, segmentsMs, first: taken + 1, last });
  return {
    exitIndex: taken,
    text,
    macs: exitMacs(model.cost, run.numFrames, scores.length)[taken],
    fullMacs: exitMacs(model.cost, run.numFrames, 1)[last],
    ms,
    full,
  };
}

/** Run the remaining segments and the last head; return text and time at full depth. */
async function rest({ run, model, timed, segmentsMs, first, last }) {
  let ms = segmentsMs;
  for (let index = first; index <= last; index++) ms += (await timed(() => run.advance()))[1];
  const [text, took] = await timed(async () => toText(collapse((await run.output()).path), model.vocab));
  return { text, ms: ms + took };
}

/** Compute the scores that the policy needs. */
async function exitScores(output, previous, names, inTable) {
  const scores = pathScores(output, previous, names);
  for (const name of names) {
    if (name === "change") scores.change = await output.change(previous);
    else if (!PATH_SCORES.includes(name)) {
      const column = inTable.indexOf(name);
      if (column < 0) throw new Error(`the export does not compute the exit score ${name}`);
      scores[name] = output.table[column];
    }
  }
  return scores;
}
