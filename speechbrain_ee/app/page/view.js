// SPDX-License-Identifier: Apache-2.0
// What the page shows: texts, exits, times and costs.

export const $ = (id) => document.getElementById(id);
const SECOND = 1000;
const LONG_TEXT = 200; // characters; such a text is shown in smaller letters
const round = (value, digits) => Number(value.toPrecision(digits)).toLocaleString("en");
export const milliseconds = (ms) => (Math.abs(ms) < 10 * SECOND ? `${Math.round(ms)}\u00a0ms` : `${round(ms / SECOND, 3)}\u00a0s`);
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

export function macsText(macs) {
  return macs < 1e9 ? `${round(macs / 1e6, 3)}\u00a0M\u00a0MACs` : `${round(macs / 1e9, 3)}\u00a0G\u00a0MACs`;
}

/** Describe the operating point of the slider. */
export function pointText(point, { evaluated_on: evaluatedOn, error_rate: rate }) {
  const facts = [];
  if (point.macs_share !== null) facts.push(`${percent(point.macs_share)} of the computation of full depth`);
  if (point.error_rate !== null && evaluatedOn) facts.push(`${rate} ${point.error_rate.toFixed(2)}\u00a0% on ${evaluatedOn}`);
  const rule = point.rule[0].toUpperCase() + point.rule.slice(1);
  const name = point.name.includes("calibrated") ? " (calibrated)" : "";
  return `${rule}${name}.${facts.length ? ` ${facts.join(", ")}.` : ""}`;
}

/** Describe the value that a policy has compared with its threshold; see `reason` in policy.js. */
function comparison({ name, value, threshold, higherIsSurer }, isReached) {
  if (Number.isNaN(value)) return `${name} is unknown`;
  if (threshold === null) return `${name} ${round(value, 3)}, no threshold here`;
  const [reached, missed] = higherIsSurer ? ["≥", "<"] : ["≤", ">"];
  return `${name} ${round(value, 3)} ${isReached ? reached : missed} ${round(threshold, 3)}`;
}

/** Describe the decision at an exit. */
function decisionText({ reason, isStopped }) {
  if (reason.kind === "last") return "all layers have run: stops";
  if (reason.kind === "fixed") return "always stops here";
  if (reason.kind === "limit") return "the next layers would exceed the limit: stops";
  if (reason.kind === "unread") return "not read, because the policy never stops here: goes on";
  return `${comparison(reason, isStopped)}: ${isStopped ? "certain enough, stops" : "goes on"}`;
}

/** Say why a recording stopped. */
function reasonText({ reason }) {
  if (reason.kind === "last") return "no exit before was certain enough";
  if (reason.kind === "fixed") return "the slider is set to this exit";
  if (reason.kind === "limit") return "the next layers would exceed the limit";
  return `${comparison(reason, true)} is certain enough`;
}

/** Show the exits before a part of a recording is recognised. */
export function resetRows(exitLayers) {
  $("rows").replaceChildren(
    ...exitLayers.map((layer) => {
      const row = document.createElement("li");
      row.className = "waiting";
      row.append(span("layer", `Layer ${layer}`), span("read", "–"), span("ms", ""), span("decision", ""));
      return row;
    }),
  );
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  if (name === "read") made.dir = "auto";
  return made;
}

/** Show what an exit reads and decides. */
export function showRow(row) {
  const place = $("rows").children[row.exitIndex];
  place.className = row.isStopped ? "stopped" : "";
  place.querySelector(".read").textContent = row.text === null ? "–" : row.text || "(no words)";
  place.querySelector(".ms").textContent = milliseconds(row.ms);
  place.querySelector(".decision").textContent = decisionText(row);
}

/** Mark the exits after the last one of a result. */
export function finishRows(result) {
  [...$("rows").children].slice(result.exitIndex + 1).forEach((place) => {
    place.querySelector(".read").textContent = "not run";
  });
  const { full } = result;
  $("compared").hidden = full === null || result.exitIndex === $("rows").children.length - 1;
  if (full !== null) {
    const same = full.text === result.text ? "reads the same text" : `reads: ${full.text || "(no words)"}`;
    $("compared").textContent = `For comparison, full depth ${same}, after ${milliseconds(full.ms)}.`;
  }
}

/** Show text, exits and costs of a recording; results: one per part that is finished. */
export function showResult(results, { app, seconds, isFinished, numParts }) {
  const layers = app.model.exit_layers;
  const words = results.map((result) => result.text).filter(Boolean).join(" ");
  $("text").className = words ? (words.length > LONG_TEXT ? "long" : "") : "empty";
  $("text").textContent = words || (isFinished ? "No words were recognised." : "Listening …");
  if (!isFinished) return;
  const sum = (of) => results.reduce((total, result) => total + of(result), 0);
  const [ms, macs, fullMacs] = [sum((r) => r.ms), sum((r) => r.macs), sum((r) => r.fullMacs)];
  $("figures").hidden = false;
  $("time").textContent = milliseconds(ms);
  const isCompared = results.every((result) => result.full !== null);
  const saved = isCompared ? sum((r) => r.full.ms) - ms : 0;
  $("time-saved").textContent = isCompared ? savedText(saved, sum((r) => r.full.ms), milliseconds) : "full depth was not measured";
  $("macs").textContent = macsText(macs);
  $("macs-saved").textContent = savedText(fullMacs - macs, fullMacs, macsText);
  const taken = results.map((result) => layers[result.exitIndex]);
  const mean = taken.reduce((a, b) => a + b, 0) / taken.length;
  $("layers").textContent = `${numParts > 1 ? round(mean, 3) : taken[0]} of ${layers.at(-1)}`;
  $("speed").textContent = `${round(seconds, 3)} s of audio, ${round((seconds * SECOND) / ms, 2)} × real time`;
}

function savedText(saved, full, format) {
  const share = percent(Math.abs(saved) / full);
  if (Math.abs(saved) < 0.005 * full) return `as much as full depth (${format(full)})`;
  return saved > 0 ? `saved ${format(saved)} (${share}) of ${format(full)}` : `${format(-saved)} (${share}) more than full depth`;
}

/** Say where the recording stopped and why; in parts, how many stopped at each layer. */
export function whyText(results, rows, exitLayers) {
  if (results.length === 1) {
    const row = rows.at(-1);
    const all = exitLayers.at(-1);
    if (rows.every((one) => ["unread", "last"].includes(one.reason.kind))) return `All ${all} layers have run, as the slider says.`;
    return `Stopped after layer ${row.layer} of ${all}: ${reasonText(row)}.`;
  }
  const counts = exitLayers.map((layer, index) => [layer, results.filter((r) => r.exitIndex === index).length]);
  const list = counts.filter(([, count]) => count).map(([layer, count]) => `${count} after layer ${layer}`).join(", ");
  return `The recording was cut at pauses into ${results.length} parts, which stopped on their own: ${list}.`;
}

export function aboutText(app, recogniser) {
  const size = Object.entries(app.files).reduce((sum, [name, file]) => sum + (name.startsWith("model/") ? file.bytes : 0), 0);
  const { model } = app;
  const parts = [
    `Model: exits after layers ${model.exit_layers.join(", ")}, ${round(model.params.at(-1) / 1e6, 3)} M parameters, ${round(size / 1e6, 3)} MB, ${model.precision}.`,
    `onnxruntime-web ${app.onnxruntime_web}, ${recogniser.threads} ${recogniser.threads > 1 ? "threads" : "thread"}.`,
    app.promise === null ? "" : `Calibrated on ${app.evaluated_on}: ${app.promise}.`,
    ...app.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`),
    `Written by speechbrain_ee ${app.version}.`,
  ];
  return parts.filter(Boolean).join(" ");
}
