// SPDX-License-Identifier: Apache-2.0
// Multiply-accumulates (MACs) of each exit, as in ee_runtime.cost.

/**
 * Return the MACs up to each exit.
 *
 * cost: the entry `cost` of export.json. numFrames: feature frames. headsRun: number of heads that are run; null means
 * all heads up to the exit.
 */
export function exitMacs(cost, numFrames, headsRun = null) {
  let frames = Math.max(numFrames, cost.min_frames);
  let total = 0;
  for (const [kernel, stride, padding, macs] of cost.stages) {
    frames = Math.floor((frames + 2 * padding - kernel) / stride) + 1;
    total += frames * macs;
  }
  total += cost.front[0] + cost.front[1] * frames;
  const layer = cost.layer[0] + cost.layer[1] * frames + cost.layer[2] * frames ** 2;
  return cost.segments.map((numLayers, index) => {
    total += numLayers * layer;
    return total + cost.head * frames * (headsRun ?? index + 1);
  });
}
