# SPDX-License-Identifier: Apache-2.0
"""Results of a sweep: its trials as JSON, as a Markdown table and as a plot."""

import json
from pathlib import Path

from ee_runtime.files import write_whole
from ee_runtime.text.error_units import ErrorUnit


def results_of(study) -> dict:
    """Return parameters, state and dev WER per epoch of every trial that ended, and the number of the best one."""
    trials = []
    for trial in study.trials:
        if trial.state.name in ("COMPLETE", "PRUNED"):
            state = "diverged" if trial.user_attrs.get("diverged") else trial.state.name.lower()
            wers = [round(wer, 4) for _, wer in sorted(trial.intermediate_values.items())]
            one = {"trial": trial.number, "folder": trial.user_attrs["folder"], "state": state, "params": trial.params}
            trials.append(one | {"options": trial.user_attrs["options"], "dev_wers": wers})
    complete = [one for one in trials if one["state"] == "complete"]
    best = min(complete, key=lambda one: one["dev_wers"][-1])["trial"] if complete else None
    return {"best": best, "trials": trials}


def markdown(results: dict) -> str:
    """Return a table of the trials, the best first, the pruned ones last."""
    lines = [
        "| trial | layers | learning rate | power of the exit weights | epochs "
        f"| dev {results.get('rate', 'WER')} % at the last exit |",
        "|---|---|---|---|---|---|",
    ]

    def order(one: dict) -> tuple:
        return one["state"] != "complete", -len(one["dev_wers"]), one["dev_wers"][-1:]

    for one in sorted(results["trials"], key=order):
        params, wers = one["params"], one["dev_wers"]
        wer = f"{wers[-1]:.2f}" if wers else ""
        cells = [one["trial"], params["layers"], f"{params['lr']:.2g}", f"{params['weight_power']:.2f}", len(wers)]
        cells.append(f"**{wer}**" if one["trial"] == results["best"] else wer)
        cells[-1] += "" if one["state"] == "complete" else f" ({one['state']})"
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def plot(results: dict, path: Path) -> None:
    """Plot dev WER over epochs and parameters; pruned trials are dotted lines and crosses. Colours are layers."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    figure, rate = Figure(figsize=(10, 6.5), layout="constrained"), results.get("rate", "WER")
    curves, *panels = figure.subplots(2, 2).flat
    for one in results["trials"]:
        wers, is_complete = one["dev_wers"], one["state"] == "complete"
        color = f"C{sorted({other['params']['layers'] for other in results['trials']}).index(one['params']['layers'])}"
        curves.plot(range(1, len(wers) + 1), wers, ".-" if is_complete else ".:", color=color)
        for axes, name in zip(panels, ("lr", "layers", "weight_power"), strict=True):
            axes.plot(one["params"][name], wers[-1] if wers else None, "o" if is_complete else "x", color=color)
    curves.set(
        xlabel="epoch",
        ylabel=f"dev {rate} % at the last exit",
        title="line: trial; dotted: pruned; colour: layers",
    )
    labels = ("learning rate", "layers", "power of the exit weights")
    for axes, label in zip(panels, labels, strict=True):
        axes.set(xlabel=label, ylabel=f"dev {rate} %", title="circle: last epoch; cross: pruned earlier")
    curves.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_xscale("log")
    panels[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].xaxis.set_minor_formatter(NullFormatter())
    panels[1].set_xticks(sorted({one["params"]["layers"] for one in results["trials"]}))
    for axes in (curves, *panels):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def publish(study, out: Path, command: str, unit: ErrorUnit, *, with_plot: bool = True) -> dict:
    """Write OUT/sweep.json and OUT/sweep.png."""
    results = {"command": command, "settings": study.user_attrs["settings"], "rate": unit.rate} | results_of(study)
    write_whole(out / "sweep.json", (json.dumps(results, indent=1) + "\n").encode())
    if with_plot:
        plot(results, out / "sweep.png")
    return results
