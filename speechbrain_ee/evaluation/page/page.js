// SPDX-License-Identifier: Apache-2.0
"use strict";
(async () => {
  const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const sets = await new Response(unpacked).json();
  const $ = (id) => document.getElementById(id);
  const PER_PAGE = 50;
  // Colours of Okabe and Ito, which colour-blind readers can distinguish.
  const BLUE = "#0072B2", ORANGE = "#D55E00", GREEN = "#009E73", GREY = "#606060";
  const state = { set: null, policy: null, index: 0, sort: "id", rising: true, page: 0, rows: [] };
  const plotting = { displayModeBar: false, responsive: true };

  const data = () => sets[state.set];
  const layers = () => data().exits.exits.map((exit) => exit.layer);
  const fixed = (value, digits = 2) => (value === null || value === undefined ? "not measured" : value.toFixed(digits));
  const hasMacs = () => data().exits.exits.at(-1).macs_per_s !== null;
  const share = (one) => {
    const full = data().exits.exits.at(-1);
    return hasMacs() ? (100 * one.macs_per_s) / full.macs_per_s : (100 * (one.mean_layer ?? one.layer)) / full.layer;
  };
  // Errors are counted in words or in characters: names of the error rate and of its keys.
  const unit = () => data().unit;
  const rateOf = (one) => one[unit().key];
  const bandOf = (one) => one[`${unit().key}_ci95`];
  const otherRate = () => (unit().key === "wer" ? { key: "cer", rate: "CER" } : { key: "wer", rate: "WER" });
  const costName = () => (hasMacs() ? "MACs" : "layers");

  function fill(select, values, chosen) {
    select.replaceChildren(...values.map(([value, text]) => new Option(text, value, false, value === chosen)));
  }

  function cell(text, className) {
    const td = document.createElement("td");
    td.textContent = text;
    if (className) td.className = className;
    return td;
  }

  function showSet(name) {
    state.set = name;
    const { exits, policies, calibrated, warning } = data();
    const hours = exits.duration_s === null ? "" : `, ${(exits.duration_s / 3600).toFixed(2)} h`;
    $("facts").textContent = `${exits.num_utterances} utterances, ${exits[unit().length]} ${unit().plural}${hours}, ${exits.decoding}`;
    $("promise").textContent = calibrated
      ? `Calibrated: ${calibrated.label}, ${unit().rate} ${fixed(rateOf(calibrated))} % at mean layer ${fixed(calibrated.mean_layer)}. ${calibrated.promise}.`
      : "Not calibrated: run speechbrain-ee calibrate to choose a threshold.";
    $("warning").hidden = !warning;
    $("warning").textContent = warning ?? "";
    for (const place of document.querySelectorAll(".rate")) place.textContent = unit().rate;
    for (const place of document.querySelectorAll(".other-rate")) place.textContent = otherRate().rate;
    $("curve").setAttribute("aria-label", $("curve").getAttribute("aria-label").replace(/WER|CER/g, unit().rate));
    const names = Object.keys(policies);
    if (!names.includes(state.policy)) state.policy = calibrated && names.includes(calibrated.label) ? calibrated.label : names[0];
    fill($("policy"), names.map((one) => [one, one.replaceAll("_", " ")]), state.policy);
    fill($("shown-exit"), [["taken", "the exit taken"], ...layers().map((layer, i) => [String(i), `layer ${layer}`])], "taken");
    const oracle = data().oracle;
    $("oracle").textContent = `Oracle (earliest exit with the fewest errors): ${unit().rate} ${fixed(rateOf(oracle))} % at mean layer ${fixed(oracle.mean_layer)}.`;
    state.page = 0;
    showPolicy(state.policy);
    showPolicies();
    showReliability();
  }

  function nearest(threshold) {
    const entries = data().policies[state.policy];
    const gaps = entries.map((entry) => Math.abs(entry.threshold - threshold));
    return gaps.indexOf(Math.min(...gaps));
  }

  function showPolicy(name) {
    state.policy = name;
    const entries = data().policies[name], calibrated = data().calibrated;
    const start = calibrated && calibrated.label === name && typeof calibrated.threshold === "number"
      ? nearest(calibrated.threshold) : Math.floor(entries.length / 2);
    $("threshold").max = entries.length - 1;
    $("threshold").value = start;
    state.index = start;
    drawCurve();
    showThreshold();
  }

  function drawCurve() {
    const { exits, policies, oracle } = data();
    const band = (entries, x, color) => ({
      x: [...x, ...[...x].reverse()],
      y: [...entries.map((e) => bandOf(e)[1]), ...entries.map((e) => bandOf(e)[0]).reverse()],
      fill: "toself", fillcolor: color, line: { width: 0 }, hoverinfo: "skip", showlegend: false, type: "scatter", mode: "lines",
    });
    const traces = [band(exits.exits, exits.exits.map(share), "rgba(96,96,96,0.15)")];
    const own = policies[state.policy];
    traces.push(band(own, own.map(share), "rgba(0,114,178,0.18)"));
    for (const [name, entries] of Object.entries(policies)) {
      const chosen = name === state.policy;
      traces.push({
        x: entries.map(share), y: entries.map(rateOf), name: name.replaceAll("_", " "), type: "scatter", mode: "lines",
        line: { color: chosen ? BLUE : "#b8b8b8", width: chosen ? 3 : 1 }, showlegend: chosen, hoverinfo: chosen ? "all" : "name",
      });
    }
    traces.push({
      x: exits.exits.map(share), y: exits.exits.map(rateOf), text: layers().map((l) => `layer ${l}`), name: "static exits",
      type: "scatter", mode: "lines+markers+text", textposition: layers().map((_, i) => (i < layers().length - 1 ? "top right" : "top center")), line: { color: GREY, dash: "dash" }, marker: { size: 8 },
    });
    traces.push({ x: [share(oracle)], y: [rateOf(oracle)], name: "oracle", type: "scatter", mode: "markers", marker: { symbol: "star", size: 14, color: "#000" } });
    traces.push({ x: [0], y: [0], name: "this threshold", type: "scatter", mode: "markers", marker: { symbol: "diamond", size: 14, color: ORANGE } });
    const rates = [...exits.exits.map(rateOf), rateOf(oracle)].filter((rate) => rate > 0);
    const [low, high] = [Math.min(...rates), Math.max(...rates)];
    const title = { text: `${unit().singular} error rate (%)` };
    const log = high > 4 * low;
    const ticks = [0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200];
    Plotly.react("curve", traces, {
      margin: { l: 55, r: 15, t: 10, b: 45 }, hovermode: "closest", legend: { orientation: "h", y: -0.22 },
      xaxis: { title: { text: `share of the full encoder's ${costName()} (%)` }, range: [0, 115] },
      yaxis: log
        ? { title, type: "log", range: [Math.log10(low / 1.3), Math.log10(high * 1.5)], tickvals: ticks, ticktext: ticks.map(String) }
        : { title, range: [0, high * 1.15] },
    }, plotting);
  }

  function showThreshold() {
    const entry = data().policies[state.policy][state.index], exits = data().exits.exits;
    const number = Number(entry.threshold.toPrecision(4));
    $("threshold-value").textContent = number;
    $("threshold").setAttribute("aria-valuetext", `threshold ${number}, ${unit().rate} ${fixed(rateOf(entry))} percent, mean layer ${fixed(entry.mean_layer)}`);
    $("rate").textContent = `${fixed(rateOf(entry))} %`;
    const more = rateOf(entry) - rateOf(exits.at(-1));
    $("increase").textContent = `${more >= 0 ? "+" : "−"}${fixed(Math.abs(more))} points`;
    $("mean-layer").textContent = fixed(entry.mean_layer);
    $("cost").textContent = `${fixed(share(entry), 1)} %`;
    const curve = $("curve");
    Plotly.restyle(curve, { x: [[share(entry)]], y: [[rateOf(entry)]] }, [curve.data.length - 1]);
    Plotly.react("histogram", [{ x: layers().map((l) => `layer ${l}`), y: Object.values(entry.histogram), type: "bar", marker: { color: BLUE } }],
      { margin: { l: 55, r: 15, t: 10, b: 30 }, yaxis: { title: { text: "utterances" } } }, plotting);
    showExits(entry);
    showUtterances();
  }

  function showExits(entry) {
    // The column of CTC error rates is shown only if the texts are from an attention decoder.
    const ctc = `${unit().key}_ctc`;
    $("exits").classList.toggle("without-ctc", data().exits.exits.at(-1)[ctc] === undefined);
    $("exits").tBodies[0].replaceChildren(...data().exits.exits.map((exit) => {
      const tr = document.createElement("tr");
      const [low, high] = bandOf(exit);
      tr.append(cell(exit.layer), cell(`${fixed(rateOf(exit))} [${fixed(low)}, ${fixed(high)}]`), cell(fixed(exit[ctc]), "ctc"), cell(fixed(exit[otherRate().key])),
        cell(`${fixed(share(exit), 1)} %`), cell(fixed(exit.rtf, 4)), cell(entry.histogram[exit.layer]));
      return tr;
    }));
  }

  function showPolicies() {
    const table = data().at_cost, names = Object.keys(table);
    $("policies-section").hidden = names.length === 0;
    $("policies").tBodies[0].replaceChildren(...names.map((name) => {
      const tr = document.createElement("tr");
      tr.append(cell(name.replaceAll("_", " ")), ...table[name].map((rate) => cell(rate === null ? "" : fixed(rate))));
      return tr;
    }));
  }

  function showReliability() {
    const table = data().reliability, names = Object.keys(table);
    $("reliability-section").hidden = names.length === 0;
    if (names.length === 0) return;
    const chosen = names.includes($("reliability-of").value) ? $("reliability-of").value : names.at(-1);
    fill($("reliability-of"), names.map((name) => [name, `layer ${name}`]), chosen);
    const kinds = Object.entries(table[chosen]);
    $("ece").textContent = kinds.map(([name, one]) => `expected calibration error of ${name}: ${fixed(100 * one.ece, 1)} %`).join("; ");
    const traces = [{ x: [0, 1], y: [0, 1], mode: "lines", line: { color: GREY, dash: "dot" }, name: "perfect", hoverinfo: "skip" }];
    const looks = { words: [GREEN, "probability that a word is right"], utterances: [ORANGE, `${unit().singular} error rate of an utterance`] };
    for (const [name, one] of kinds) {
      traces.push({ x: one.bins.map((b) => b.predicted), y: one.bins.map((b) => b.observed), name: looks[name][1], mode: "lines+markers", line: { color: looks[name][0] } });
    }
    Plotly.react("reliability", traces, {
      margin: { l: 55, r: 15, t: 10, b: 45 }, legend: { orientation: "h", y: -0.22 },
      xaxis: { title: { text: "predicted" }, range: [0, 1.02] }, yaxis: { title: { text: "observed" }, range: [0, 1.02] },
    }, plotting);
    $("bins").tBodies[0].replaceChildren(...kinds.flatMap(([name, one]) => one.bins.map((bin) => {
      const tr = document.createElement("tr");
      tr.append(cell(name), cell(fixed(bin.predicted, 3)), cell(fixed(bin.observed, 3)), cell(Math.round(bin.weight)));
      return tr;
    })));
  }

  function exitTaken(row) {
    const stops = data().stops[state.policy][row]; // by exit: the first slider position that stops the utterance there
    const found = stops.findIndex((first) => first !== null && first <= state.index);
    return found < 0 ? stops.length : found;
  }

  const COLUMNS = [
    ["id", "id", (one) => one.id],
    ["duration", "seconds", (one) => one.d ?? 0],
    ["length", () => unit().plural, (one) => one.n],
    ["exit", "exit", (one) => one.taken],
    ["errors", "errors by exit", (one) => one.e[one.taken]],
    ["text", "text", (one) => one.r ?? ""],
  ];

  function heads() {
    $("utterances").tHead.rows[0].replaceChildren(...COLUMNS.map(([key, name]) => {
      const th = document.createElement("th"), button = document.createElement("button");
      th.scope = "col";
      button.type = "button";
      button.textContent = typeof name === "function" ? name() : name;
      button.dataset.key = key;
      th.setAttribute("aria-sort", state.sort === key ? (state.rising ? "ascending" : "descending") : "none");
      if (state.sort === key) button.textContent += state.rising ? " ▲" : " ▼";
      button.addEventListener("click", () => {
        state.rising = state.sort === key ? !state.rising : true;
        state.sort = key;
        state.page = 0;
        showUtterances();
        document.querySelector(`#utterances button[data-key="${key}"]`).focus();
      });
      th.append(button);
      return th;
    }));
  }

  function showUtterances() {
    const wanted = $("search").value.trim().toLowerCase(), value = COLUMNS.find(([key]) => key === state.sort)[2];
    const rows = data().utterances.map((one, index) => ({ ...one, taken: exitTaken(index) }))
      .filter((one) => !wanted || [one.id, one.s, one.r, ...one.h].some((text) => text && String(text).toLowerCase().includes(wanted)));
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return state.rising ? order : -order;
    });
    const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
    state.page = Math.min(state.page, pages - 1);
    $("found").textContent = `${rows.length} of ${data().utterances.length} utterances`;
    $("page").textContent = `page ${state.page + 1} of ${pages}`;
    $("before").disabled = state.page === 0;
    $("after").disabled = state.page === pages - 1;
    heads();
    $("utterances").tBodies[0].replaceChildren(...rows.slice(state.page * PER_PAGE, (state.page + 1) * PER_PAGE).map(line));
  }

  function line(one) {
    const tr = document.createElement("tr");
    const name = cell(one.id);
    if (one.s) name.append(document.createElement("br"), one.s);
    if (one.a) {
      const audio = document.createElement("audio");
      const part = one.t ? `#t=${one.t[0].toFixed(3)},${one.t[1].toFixed(3)}` : "";
      const src = one.a.split("/").map(encodeURIComponent).join("/") + part;
      Object.assign(audio, { controls: true, preload: "none", src });
      audio.setAttribute("aria-label", `audio of ${one.id}`);
      name.append(audio);
    }
    const errors = cell("", "num");
    one.e.forEach((count, index) => {
      const span = document.createElement("span");
      span.textContent = count;
      span.title = `layer ${layers()[index]}`;
      if (index === one.taken) {
        span.className = "taken";
        span.setAttribute("aria-label", `${count}, taken`);
      }
      errors.append(span, index < one.e.length - 1 ? " " : "");
    });
    tr.append(name, cell(one.d === null || one.d === undefined ? "" : one.d.toFixed(1), "num"), cell(one.n, "num"), cell(layers()[one.taken], "num"), errors, texts(one));
    return tr;
  }

  function texts(one) {
    const td = cell("", "text"), block = document.createElement("div"), shown = $("shown-exit").value;
    block.dir = "auto"; // Arabic, Hebrew and others are written from right to left
    td.append(block);
    const hypothesis = one.h[shown === "taken" ? one.taken : Number(shown)];
    if (one.r === null || one.r === undefined || hypothesis === null || hypothesis === undefined) {
      block.textContent = one.r ?? "no text in utterances.jsonl";
      return td;
    }
    const between = unit().key === "wer" ? " " : "";
    for (const [kind, text] of marked(one.r, hypothesis)) {
      if (kind === "same") block.append(text, between);
      else {
        const mark = document.createElement(kind);
        mark.textContent = text;
        const hidden = document.createElement("span"); // read by screen readers
        hidden.className = "hidden";
        hidden.dir = "ltr"; // an element with a direction of its own does not decide that of the block
        hidden.textContent = kind === "del" ? "missing: " : "instead: ";
        mark.prepend(hidden);
        mark.title = kind === "del" ? "spoken, but not recognised" : "recognised, but not spoken";
        block.append(mark, between);
      }
    }
    return td;
  }

  // Marks the differing words, or the runs of differing characters: [["same" | "del" | "ins", text], ...].
  function marked(said, heard) {
    if (unit().key === "wer") return difference(said.split(/\s+/).filter(Boolean), heard.split(/\s+/).filter(Boolean));
    const runs = [];
    // Letters first, then those instead of them: a run of substitutions is one deletion and one insertion.
    let [missing, instead] = ["", ""];
    const flush = () => {
      if (missing) runs.push(["del", missing]);
      if (instead) runs.push(["ins", instead]);
      [missing, instead] = ["", ""];
    };
    for (const [kind, letter] of difference(Array.from(oneSpace(said)), Array.from(oneSpace(heard)))) {
      if (kind === "del") missing += letter;
      else if (kind === "ins") instead += letter;
      else {
        flush();
        if (runs.length && runs.at(-1)[0] === "same") runs.at(-1)[1] += letter;
        else runs.push(["same", letter]);
      }
    }
    flush();
    return runs;
  }

  const oneSpace = (text) => text.split(/\s+/).filter(Boolean).join(" ");

  // Aligns two lists of words or characters with the fewest edits: [["same" | "del" | "ins", word], ...].
  function difference(said, heard) {
    const cost = Array.from({ length: said.length + 1 }, (_, i) => Array.from({ length: heard.length + 1 }, (_, j) => (i === 0 ? j : j === 0 ? i : 0)));
    for (let i = 1; i <= said.length; i++)
      for (let j = 1; j <= heard.length; j++)
        cost[i][j] = Math.min(cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (said[i - 1] === heard[j - 1] ? 0 : 1));
    const found = [];
    let i = said.length, j = heard.length;
    while (i > 0 || j > 0) {
      const same = i > 0 && j > 0 && said[i - 1] === heard[j - 1];
      if (i > 0 && j > 0 && cost[i][j] === cost[i - 1][j - 1] + (same ? 0 : 1)) {
        i--; j--;
        if (same) found.push(["same", said[i]]);
        else found.push(["ins", heard[j]], ["del", said[i]]);
      } else if (i > 0 && cost[i][j] === cost[i - 1][j] + 1) found.push(["del", said[--i]]);
      else found.push(["ins", heard[--j]]);
    }
    return found.reverse();
  }

  $("test-set").addEventListener("change", (event) => showSet(event.target.value));
  $("policy").addEventListener("change", (event) => showPolicy(event.target.value));
  $("threshold").addEventListener("input", (event) => { state.index = Number(event.target.value); showThreshold(); });
  $("reliability-of").addEventListener("change", showReliability);
  $("shown-exit").addEventListener("change", showUtterances);
  $("search").addEventListener("input", () => { state.page = 0; showUtterances(); });
  $("before").addEventListener("click", () => { state.page--; showUtterances(); });
  $("after").addEventListener("click", () => { state.page++; showUtterances(); });

  for (const one of Object.values(sets).flatMap((set) => set.utterances)) {
    one.h = one.h.map((text) => (typeof text === "number" ? one.h[text] : text)); // the index of an earlier exit with the same text
  }
  const names = Object.keys(sets);
  fill($("test-set"), names.map((name) => [name, name]), names.at(-1));
  showSet(names.at(-1));
})();
