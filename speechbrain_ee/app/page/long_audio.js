// SPDX-License-Identifier: Apache-2.0
// Cut long recordings at pauses, as in ee_runtime.long_audio.

const SEARCH_S = 10;
const PAUSE_S = 0.2;

/** Cut a waveform (Float32Array) into parts of at most maxSeconds, at the quietest position before each limit. */
export function cutAtPauses(waveform, sampleRate, maxSeconds) {
  const limit = Math.trunc(maxSeconds * sampleRate);
  const search = Math.min(Math.trunc(SEARCH_S * sampleRate), limit);
  const window = Math.max(1, Math.trunc(PAUSE_S * sampleRate));
  const parts = [];
  let start = 0;
  while (waveform.length - start > limit) {
    const from = start + limit - search;
    const cut = from + quietest(waveform.subarray(from, start + limit), window);
    parts.push(waveform.subarray(start, cut));
    start = cut;
  }
  parts.push(waveform.subarray(start));
  return parts;
}

/** Return the middle of the window with the least energy. */
function quietest(waveform, window) {
  const energy = new Float64Array(waveform.length);
  let sum = 0;
  for (let i = 0; i < waveform.length; i++) {
    sum += waveform[i] * waveform[i];
    energy[i] = sum;
  }
  let best = 0;
  for (let i = 1; i + window < energy.length; i++) {
    if (energy[i + window] - energy[i] < energy[best + window] - energy[best]) best = i;
  }
  return best + 1 + Math.floor(window / 2);
}
