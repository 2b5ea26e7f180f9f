// SPDX-License-Identifier: Apache-2.0
// Read audio files and record from the microphone: one channel at the sample rate of the model.

import { mixDown } from "./mixing.js";

export const MAX_FILE_MB = 200;
export const MAX_MINUTES = 20;

/** Decode a file (Blob) to one channel (Float32Array). */
export async function decodeFile(file, sampleRate) {
  if (file.size > MAX_FILE_MB * 1e6) throw new Error(`The file has more than ${MAX_FILE_MB} MB. Choose a shorter recording.`);
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, sampleRate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`This browser cannot read ${file.name || "the file"}. Choose an audio file, such as WAV, MP3, M4A, OGG or FLAC.`);
  }
  if (audio.length === 0) throw new Error("The file has no audio.");
  if (audio.duration > MAX_MINUTES * 60) {
    throw new Error(`The recording is longer than ${MAX_MINUTES} minutes. Use the command speechbrain-ee transcribe for it.`);
  }
  return mixDown(Array.from({ length: audio.numberOfChannels }, (_, channel) => audio.getChannelData(channel)));
}

/** Convert a waveform (Float32Array) to another sample rate. */
async function resample(waveform, rate, newRate) {
  if (rate === newRate) return waveform;
  const length = Math.max(1, Math.round((waveform.length * newRate) / rate));
  const context = new OfflineAudioContext(1, length, newRate);
  const buffer = context.createBuffer(1, waveform.length, rate);
  buffer.copyToChannel(waveform, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

/** Records from the microphone until `stop`. */
export class Recorder {
  /** onLevel is called with the loudness from 0 to 1 and the seconds so far. */
  static async start(onLevel) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("This browser allows no microphone here. Open the page with https, or on this computer.");
    }
    const recorder = new Recorder();
    // Models are trained on speech that was not processed by a browser.
    const processing = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    try {
      recorder.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...processing } });
    } catch (error) {
      const isRefused = error.name === "NotAllowedError" || error.name === "SecurityError";
      throw new Error(isRefused ? "The microphone is not allowed. Allow it in the settings of the browser." : "No microphone was found.");
    }
    try {
      await recorder.#connect(onLevel);
    } catch (error) {
      recorder.#release();
      throw new Error(`This browser cannot record: ${error.message}`);
    }
    return recorder;
  }

  async #connect(onLevel) {
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("recorder-worklet.js");
    await this.context.resume();
    this.node = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
    this.blocks = [];
    this.samples = 0;
    this.ended = new Promise((resolve) => {
      this.node.port.onmessage = ({ data }) => (data === null ? resolve() : this.#add(data, onLevel));
    });
    this.source = this.context.createMediaStreamSource(this.stream);
    this.source.connect(this.node);
  }

  #add(block, onLevel) {
    this.blocks.push(block);
    this.samples += block.length;
    const power = block.reduce((sum, value) => sum + value * value, 0) / Math.max(1, block.length);
    onLevel(Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-12) / 6)), this.samples / this.context.sampleRate);
  }

  #release() {
    this.stream.getTracks().forEach((track) => track.stop());
    return this.context?.close();
  }

  /** Stop recording; return the waveform (Float32Array) at the sample rate of the model. */
  async stop(sampleRate) {
    this.source.disconnect();
    this.node.port.postMessage("end");
    await this.ended;
    const rate = this.context.sampleRate;
    await this.#release();
    if (this.samples === 0) throw new Error("The microphone gave no sound.");
    const waveform = new Float32Array(this.samples);
    let at = 0;
    for (const block of this.blocks) {
      waveform.set(block, at);
      at += block.length;
    }
    return mixDown([await resample(waveform, rate, sampleRate)]);
  }
}

/** Return a WAV file (Blob) of a waveform in 16 bits, for the player. */
export function toWav(waveform, sampleRate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * waveform.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * waveform.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // integers
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * waveform.length, true);
  waveform.forEach((value, i) => view.setInt16(44 + 2 * i, Math.round(value * 32767), true));
  return new Blob([view.buffer], { type: "audio/wav" });
}
