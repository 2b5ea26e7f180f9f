# SPDX-License-Identifier: Apache-2.0
"""Plot the time of every exit that ``speechbrain-ee bench`` measured."""

from __future__ import annotations

import io
from collections.abc import Mapping

# Colours of Okabe and Ito, which colour-blind readers can distinguish.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def draw_times(figures: Mapping) -> bytes:
    """Plot the real-time factor of the static exits, and of the policy with each limit, over the layers that ran.

    Arguments
    ---------
    figures : mapping
        Figures of :func:`ee_runtime.bench.figures.bench`.

    Returns
    -------
    bytes
        A PNG. Points are medians over the rounds; a bar reaches down to the shortest time. A budget in RTF is a line.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines = [(model, times) for model in figures["models"] for times in model["times"]]
    for number, (model, times) in enumerate(lines):
        label, color = f"{model['path']}, {times['input']}", COLORS[number % len(COLORS)]
        _draw(axes, times["exits"], "layer", times["audio_s"], color=color, fmt="o-", label=f"{label}: static exits")
        if rows := times["policies"]:
            _draw(axes, rows, "mean_layer", times["audio_s"], color=color, fmt="s--", label=f"{label}: policy")
    budgets = {answer["budget"]["rtf"] for answer in figures.get("answers", []) if "rtf" in answer["budget"]}
    for budget in budgets:
        axes.axhline(budget, color="0.35", lw=1.2, ls=":", label=f"budget: RTF {budget:g}")
    _label(axes, figures)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes, rows, key: str, audio_s: float, **style) -> None:
    medians = [row["rtf"] for row in rows]
    below = [median - row["min_s"] / audio_s for median, row in zip(medians, rows, strict=True)]
    axes.errorbar(
        [row[key] for row in rows], medians, yerr=[below, [0.0] * len(rows)], lw=1.5, ms=5, capsize=3, **style
    )


def _label(axes, figures: Mapping) -> None:
    from matplotlib.ticker import MaxNLocator

    machine, threads = figures["machine"], figures["threads"]
    axes.set_xlabel("encoder layers that ran (mean over the recordings for a policy)")
    axes.set_ylabel("RTF (seconds of computation per second of audio)")
    axes.set_title(
        f"{machine['cpu']}, {threads} thread{'s' * (threads > 1)}, batch {figures['batch']}, "
        f"matrix products at {machine['gemm_gflops']:.0f} GFLOP/s",
        fontsize=10,
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(True, color="0.9", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
