// SPDX-License-Identifier: Apache-2.0
// Passes the sound of the microphone on to the page, in blocks of 4096 samples; any message asks for the rest.

const BLOCK = 4096;

class RecorderProcessor extends AudioWorkletProcessor {
  block = new Float32Array(BLOCK);
  filled = 0;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.port.postMessage(this.block.slice(0, this.filled));
      this.port.postMessage(null); // the end
    };
  }

  process([input]) {
    if (input.length === 0) return true;
    const frames = input[0].length;
    for (let i = 0; i < frames; i++) {
      let sum = 0;
      for (const channel of input) sum += channel[i];
      this.block[this.filled++] = sum / input.length;
      if (this.filled === BLOCK) {
        this.port.postMessage(this.block);
        this.block = new Float32Array(BLOCK);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", RecorderProcessor);
