# SPDX-License-Identifier: Apache-2.0
"""The results of the paper's experiment next to the paper's figures: Markdown tables, JSON and a plot."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ee_runtime.files import write_whole

if TYPE_CHECKING:
    from paper_corpus import Corpus

ROOT = Path(__file__).resolve().parent.parent
FIGURES = Path(__file__).with_name("paper_figures.json")
LABELS = {"conformer_ctc": "Conformer-CTC", "conformer_aed": "Conformer-AED", "wav2vec2": "wav2vec2", "wavlm": "WavLM"}
# The paper's rules, and those that greedy decoding gives without further computation.
RULES = ("static", "entropy", "confidence", "attention_confidence", "posterior", "posterior_guarded")


def collect(
    out: Path, corpus: "Corpus", models: list[str], *, small: bool, random: list[str], options: list[str]
) -> dict:
    """Read what is finished.

    Arguments
    ---------
    out : Path
        Folder of the experiment.
    corpus : Corpus
        The corpus.
    models : list of str
        Models to look for.
    small : bool
        Whether the models are small.
    random : list of str
        Models whose pretrained encoder is randomly initialised.
    options : list of str
        Further options of train.py.

    Returns
    -------
    dict
        For each model, its exits with greedy decoding (``exits``) and with a beam (``beam``), its twins, each by test
        set, and the WER of exit rules at equal mean exit layer.
    """
    from side_by_side import read

    tests = [test.stem for test in corpus.tests]
    results: dict = {"corpus": corpus.name, "tests": tests, "small": small, "random": random, "options": options}
    results["models"] = {}
    for name in models:
        sets = read(out / name / "exits")
        found = {
            "exits": {test: sets[test] for test in tests if test in sets},
            "beam": {test: sets[f"{test}-beam"] for test in tests if f"{test}-beam" in sets},
            "twins": {test: twins for test in tests if (twins := _twins(out / name, test))},
            "rules": {},
        }
        for test in tests:
            rows = {"greedy": test, "beam": f"{test}-beam"}
            rows = {how: _rules(out / name / "exits" / "eval" / folder) for how, folder in rows.items()}
            found["rules"][test] = {how: table for how, table in rows.items() if table}
        if found["exits"] or found["twins"]:
            results["models"][name] = found
    return results


def _twins(folder: Path, test: str) -> list[dict]:
    from side_by_side import read

    rows = [read(run).get(test, []) for run in sorted(folder.glob("twin_*"))]
    return sorted((row[-1] for row in rows if row), key=lambda row: row["layer"])


def _rules(folder: Path) -> dict:
    """Return the WER of each rule at equal mean exit layer; empty if the evaluation is not finished."""
    from replay import compare

    if not (folder / "exits.json").exists():
        return {}
    policies = compare(folder / "utterances.jsonl", None)["policies"]
    return {rule: policies[rule] for rule in RULES if rule in policies}


def paper_systems(corpus: str) -> tuple[str, list[dict]]:
    """Return the corpus of the paper's figures (LibriSpeech for a corpus that the paper does not have), and these."""
    systems = json.loads(FIGURES.read_text("utf-8"))["systems"]
    corpus = corpus if any(one["corpus"] == corpus for one in systems) else "LibriSpeech"
    return corpus, [one for one in systems if one["corpus"] == corpus]


def markdown(results: dict) -> str:
    """Return the page: WER of every exit, then WER of exit rules."""
    source = json.loads(FIGURES.read_text("utf-8"))
    corpus, systems = paper_systems(results["corpus"])
    lines = [f"# The paper's models on {results['corpus']}", ""]
    lines += [f"WER in percent. Figures in rows of the paper are those of {source['paper']}.", ""]
    if results["small"]:
        lines += ["Our models are small (`--small`), so they are not comparable with those of the paper.", ""]
    if corpus != results["corpus"]:
        lines += [f"The paper does not have this corpus. Its figures are those on {corpus}: other test sets.", ""]
    rows = [row for name in LABELS for row in [*_our_rows(name, results), *_paper_rows(name, corpus, systems)]]
    lines += [*_layers_table(rows), ""]
    used = sorted({one["source"] for one in systems})
    lines += [
        f"* ({key}): {source['sources'][key]['table']}. Decoding: {source['sources'][key]['decoding']}." for key in used
    ]
    return "\n".join([*lines, "", *_rules_table(results, source["rules"])]) + "\n"


def _our_rows(name: str, results: dict) -> list[tuple]:
    found = results["models"].get(name, {})
    rows = []
    for test in results["tests"]:
        for kind, decoding in (("exits", "greedy"), ("beam", "beam"), ("twins", "greedy")):
            if cells := {one["layer"]: _cell(one) for one in found.get(kind, {}).get(test, [])}:
                exits = "one" if kind == "twins" else str(len(cells))
                rows.append((_label(name, results), "ours", exits, decoding, test, cells))
    return rows


def _paper_rows(name: str, corpus: str, systems: list[dict]) -> list[tuple]:
    rows = []
    for one in systems:
        if one["model"] == name:
            exits = "6" if one["exits"] == "six" else "one"
            for test, wers in one["wer"].items():
                cells = {int(layer): f"{wer:.1f}" for layer, wer in wers.items()}
                rows.append((LABELS[name], "paper", exits, f"({one['source']})", f"{corpus} {test}", cells))
    return rows


def _layers_table(rows: list[tuple]) -> list[str]:
    layers = sorted({layer for *_, cells in rows for layer in cells})
    lines = ["| model | | exits | decoding | test set | " + " | ".join(f"layer {layer}" for layer in layers) + " |"]
    lines.append("|---" * (5 + len(layers)) + "|")
    for *names, cells in rows:
        lines.append("| " + " | ".join([*names, *(cells.get(layer, "") for layer in layers)]) + " |")
    return lines


def _label(name: str, results: dict) -> str:
    return LABELS[name] + (" (random weights)" if name in results["random"] else "")


def _cell(one: dict) -> str:
    low, high = one["wer_ci95"]
    return f"{one['wer']:.1f} [{low:.1f}, {high:.1f}]"


def _rules_table(results: dict, published: dict) -> list[str]:
    """Return a table of WER at equal mean exit layers, for each decoding; the paper's figures come last."""
    rows = []
    for name, found in results["models"].items():
        for test, decodings in found["rules"].items():
            for decoding, rules in decodings.items():
                rows += [(_label(name, results), "ours", decoding, test, rule, wers) for rule, wers in rules.items()]
    if not rows:
        return []
    paper = json.loads((ROOT / published["file"]).read_text("utf-8"))["policies"]
    test = f"{published['corpus']} {published['test_set']}"
    label = LABELS[published["model"]]
    rows += [(label, "paper (f)", published["decoding"], test, rule, paper[rule]) for rule in RULES if rule in paper]
    layers = sorted({layer for *_, wers in rows for layer in wers}, key=float)
    lines = [
        "| model | | decoding | test set | exit rule | " + " | ".join(f"mean layer {one}" for one in layers) + " |"
    ]
    lines.append("|---" * (5 + len(layers)) + "|")
    for *names, rule, wers in rows:
        cells = ["" if wers.get(layer) is None else f"{wers[layer]:.2f}" for layer in layers]
        lines.append("| " + " | ".join([*names, rule.replace("_", " "), *cells]) + " |")
    return [*lines, "", f"* (f): {published['source']}."]


def plot(results: dict, path: Path) -> None:
    """Plot WER over exit layers, one panel per test set; a dashed line is the paper's, and a cross is a twin."""
    from matplotlib.figure import Figure

    corpus, systems = paper_systems(results["corpus"])
    tests = results["tests"]
    figure = Figure(figsize=(5 * len(tests) + 2, 4.5), layout="constrained")
    for test, axes in zip(tests, figure.subplots(1, len(tests), squeeze=False)[0], strict=True):
        for color, (name, label) in enumerate(LABELS.items()):
            found = results["models"].get(name, {})
            style = {"color": f"C{color}"}
            if exits := found.get("exits", {}).get(test):
                axes.plot(*_points(exits), "o-", label=label, **style)
            if twins := found.get("twins", {}).get(test):
                axes.plot(*_points(twins), "x", label=f"{label}, twins", **style)
            for one in systems if corpus == results["corpus"] else []:
                if one["model"] == name and one["exits"] == "six" and test in one["wer"]:
                    wers = one["wer"][test]
                    axes.plot(
                        [int(layer) for layer in wers], list(wers.values()), "--", label=f"{label}, paper", **style
                    )
        axes.set(xlabel="exit layer", ylabel="WER %", title=test)
        axes.grid(alpha=0.3)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    figure.savefig(path, dpi=100)


def _points(rows: list[dict]) -> tuple[list[int], list[float]]:
    return [one["layer"] for one in rows], [one["wer"] for one in rows]


def publish(results: dict, out: Path) -> None:
    """Write OUT/paper.md, OUT/paper.json and OUT/paper.png."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "paper.json", (json.dumps(results, indent=1) + "\n").encode())
    write_whole(out / "paper.md", markdown(results).encode())
    plot(results, out / "paper.png")
