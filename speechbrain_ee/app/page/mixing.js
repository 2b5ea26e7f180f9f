// SPDX-License-Identifier: Apache-2.0
// Mix channels down to one, as in ee_runtime.audio.mixing.

const SILENT = 1e-6; // 60 dB below the loudest channel
const CANCELLED = 0.1; // the mean has less than a tenth of the power that uncorrelated channels would leave

/** Mix channels (Float32Arrays of equal length) down to one, clipped to [-1, 1]. */
export function mixDown(channels) {
  const weights = channels.length === 1 ? [1] : mixWeights(channels);
  return Float32Array.from(channels[0], (_, i) => {
    let sum = 0;
    for (let c = 0; c < channels.length; c++) sum += weights[c] * channels[c][i];
    return Math.min(1, Math.max(-1, sum));
  });
}

/** Return the weight of each channel: silent channels are left out; if channels cancel each other, the loudest counts. */
function mixWeights(channels) {
  const powers = channels.map((channel) => channel.reduce((sum, value) => sum + value * value, 0));
  const loudest = Math.max(...powers);
  const heard = powers.map((power) => loudest === 0 || power > SILENT * loudest);
  const count = heard.filter(Boolean).length;
  let ofMean = 0; // power of the mean of the heard channels
  for (let i = 0; i < channels[0].length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[i];
    ofMean += (sum / count) ** 2;
  }
  const mean = powers.reduce((sum, power, c) => sum + (heard[c] ? power : 0), 0) / count;
  if (count > 1 && ofMean < (CANCELLED * mean) / count) return powers.map((_, c) => Number(c === powers.indexOf(loudest)));
  return heard.map((is) => (is ? 1 / count : 0));
}
