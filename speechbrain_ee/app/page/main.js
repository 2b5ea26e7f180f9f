// SPDX-License-Identifier: Apache-2.0
// The page: load the model, take speech from the microphone or a file, and show what each exit reads.

import { Recorder, decodeFile, toWav } from "./audio.js";
import { fetchApp, fetchFile, keepOffline } from "./files.js";
import { cutAtPauses } from "./long_audio.js";
import { Recogniser } from "./recogniser.js";
import { $, aboutText, finishRows, pointText, resetRows, showResult, showRow, whyText } from "./view.js";

const ASK_FROM_MB = 60; // a larger model is loaded only when the user asks for it
const MAX_RECORDING_S = 120;
const state = { app: null, recogniser: null, recorder: null, waveform: null, isBusy: false, isWaiting: false, isCancelled: false };

function fail(error, place = $("input-status")) {
  place.textContent = error.message;
  place.classList.add("error");
}

function say(text) {
  $("input-status").textContent = text;
  $("input-status").classList.remove("error");
}

async function start() {
  const app = await fetchApp();
  state.app = app;
  resetRows(app.model.exit_layers);
  const slider = $("slider");
  slider.max = app.points.length - 1;
  slider.value = app.default_point;
  showPoint();
  const { features, segments, exits, change } = app.graphs;
  const names = [features, ...segments, ...exits, change, "onnxruntime-web/ort-wasm.wasm"].filter((name) => name !== null);
  const total = names.reduce((sum, name) => sum + app.files[name].bytes, 0);
  if (total > ASK_FROM_MB * 1e6) await asked(total);
  const files = await loadFiles(names, total);
  $("loading-text").textContent = "Preparing the model";
  $("loading-bar").removeAttribute("value");
  const threads = new URLSearchParams(location.search).get("threads");
  state.recogniser = await Recogniser.load(app, files, threads === null ? null : Math.max(1, Number(threads) || 1));
  $("loading").hidden = true;
  $("about").textContent = aboutText(app, state.recogniser);
  for (const id of ["record", "file", "slider"]) $(id).disabled = false;
  $("file-label").classList.remove("off");
  document.body.dataset.ready = "true";
  await offline(app);
}

function asked(total) {
  $("loading-text").textContent = `The model and its runtime have ${Math.round(total / 1e6)} MB.`;
  $("loading-bar").hidden = true;
  $("load").hidden = false;
  return new Promise((resolve) => $("load").addEventListener("click", resolve, { once: true })).then(() => {
    $("load").hidden = true;
    $("loading-bar").hidden = false;
  });
}

async function loadFiles(names, total) {
  let loaded = 0;
  const files = new Map();
  $("loading-text").textContent = `Loading the model (${Math.round(total / 1e6)} MB)`;
  for (const name of names) {
    const data = await fetchFile(name, state.app.files[name], (bytes) => {
      loaded += bytes;
      $("loading-bar").value = loaded / total;
    });
    files.set(name, data);
  }
  return files;
}

async function offline(app) {
  try {
    const found = await keepOffline(app, () => {
      $("offline").textContent = "There is a new version of this page: reload it.";
    });
    if (found === "kept") $("offline").textContent = "This page is stored in the browser and also works offline.";
  } catch {
    $("offline").textContent = "This browser does not store the page: it needs a connection.";
  }
  document.body.dataset.stored = "true";
}

function showPoint() {
  const point = state.app.points[$("slider").value];
  $("point").textContent = pointText(point, state.app);
  $("slider").setAttribute("aria-valuetext", point.rule);
}

/** Recognise the last recording; if that is already going on, once more when it ends. */
async function recognise() {
  if (state.isBusy) {
    state.isWaiting = true;
    state.isCancelled = true;
    return;
  }
  state.isBusy = true;
  do {
    state.isWaiting = false;
    state.isCancelled = false;
    try {
      await recogniseOnce();
    } catch (error) {
      fail(new Error(`The model could not be run: ${error.message}`));
    }
  } while (state.isWaiting);
  state.isBusy = false;
  $("cancel").hidden = true;
}

async function recogniseOnce() {
  const { app, recogniser, waveform } = state;
  const { sample_rate: rate, max_part_s: longest, exit_layers: layers } = app.model;
  const parts = cutAtPauses(waveform, rate, longest);
  const policy = app.points[$("slider").value].policy;
  const [results, lastRows] = [[], []];
  const shown = { app, seconds: waveform.length / rate, numParts: parts.length };
  delete document.body.dataset.done;
  $("why").textContent = "";
  $("figures").hidden = true;
  $("cancel").hidden = parts.length === 1;
  for (const [index, part] of parts.entries()) {
    if (state.isCancelled) break;
    resetRows(layers);
    if (parts.length > 1) say(`Part ${index + 1} of ${parts.length}`);
    const rows = [];
    const result = await recogniser.recognise(part.slice(), policy, $("compare").checked, (row) => {
      rows.push(row);
      showRow(row);
      if (row.text !== null) showResult([...results, row], { ...shown, isFinished: false });
    });
    finishRows(result);
    results.push(result);
    lastRows.push(rows);
  }
  if (results.length === 0) return;
  showResult(results, { ...shown, seconds: results.length < parts.length ? secondsOf(parts, results.length, rate) : shown.seconds, isFinished: true });
  $("why").textContent = whyText(results, lastRows.at(-1), layers);
  if (parts.length > 1) say(results.length < parts.length ? `Cancelled after ${results.length} of ${parts.length} parts.` : `${parts.length} parts are finished. The exits below are those of the last part.`);
  document.body.dataset.done = JSON.stringify({ text: $("text").className === "empty" ? "" : $("text").textContent, results });
}

const secondsOf = (parts, count, rate) => parts.slice(0, count).reduce((sum, part) => sum + part.length, 0) / rate;

function take(waveform) {
  state.waveform = waveform;
  const player = $("player");
  if (player.src) URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(toWav(waveform, state.app.model.sample_rate));
  player.hidden = false;
  return recognise();
}

async function takeFile(file) {
  if (!file || !state.recogniser) return;
  try {
    say(`Reading ${file.name}`);
    const waveform = await decodeFile(file, state.app.model.sample_rate);
    say(`${file.name}: ${(waveform.length / state.app.model.sample_rate).toFixed(1)} s`);
    await take(waveform);
  } catch (error) {
    fail(error);
  }
}

async function record() {
  if (state.recorder === "starting") return;
  const button = $("record");
  try {
    if (state.recorder) {
      const { recorder } = state;
      state.recorder = null;
      showRecording(false);
      const waveform = await recorder.stop(state.app.model.sample_rate);
      say(`Recorded ${(waveform.length / state.app.model.sample_rate).toFixed(1)} s.`);
      await take(waveform);
      return;
    }
    state.recorder = "starting";
    say("Waiting for the microphone");
    state.recorder = await Recorder.start((level, seconds) => {
      $("level").value = level;
      button.title = `${seconds.toFixed(0)} s`;
      if (seconds >= MAX_RECORDING_S && state.recorder) record();
    });
    showRecording(true);
    say(`Listening. Press Stop at the end, after ${MAX_RECORDING_S} s at the latest.`);
  } catch (error) {
    state.recorder = null;
    showRecording(false);
    fail(error);
  }
}

function showRecording(is) {
  $("record").classList.toggle("recording", is);
  $("record-text").textContent = is ? "Stop" : "Record";
  $("level").hidden = !is;
  $("level").value = 0;
}

function listen() {
  $("record").addEventListener("click", record);
  $("file").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    await takeFile(file);
    target.value = ""; // so that the same file can be chosen again
  });
  $("cancel").addEventListener("click", () => {
    state.isCancelled = true;
  });
  $("slider").addEventListener("input", showPoint);
  $("slider").addEventListener("change", () => state.waveform && recognise());
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) $("drop").hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    takeFile(event.dataTransfer.files[0]);
  });
}

$("file-label").classList.add("off");
listen();
start().catch((error) => fail(error, $("loading-text")));
