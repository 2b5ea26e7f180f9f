# SPDX-License-Identifier: Apache-2.0
"""Plot the error rate against cost: ``exits.png``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from ee_runtime.text.error_units import ErrorUnit, unit_of

# Colours of Okabe and Ito, which colour-blind readers can distinguish.
_CURVE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# One policy of each kind; policies.json and the report page have all.
_PLOTTED = ("entropy", "confidence", "agreement", "change", "patience", "posterior")


def draw_exits(
    exits: Mapping,
    curves: Mapping[str, Sequence[Mapping]] | None = None,
    *,
    oracle_macs_per_s: float | None = None,
) -> bytes:
    """Plot static exits with 95 % intervals, a curve per policy, and the oracle.

    Arguments
    ---------
    exits : mapping
        Contents of ``exits.json``.
    curves : mapping, optional
        Contents of ``policies.json``.
    oracle_macs_per_s : float, optional
        Cost of the oracle; None omits its point if cost is in MACs.

    Returns
    -------
    bytes
        A PNG. Cost is a share of the last exit's MACs, or of its layers if MACs are unknown.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, oracle, unit = exits["exits"], exits["oracle"], unit_of(exits)
    cost = "macs_per_s" if rows[-1]["macs_per_s"] else "layer"
    full = rows[-1][cost] / 100.0
    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_static(axes, [row[cost] / full for row in rows], rows, unit)
    key = "macs_per_s" if cost == "macs_per_s" else "mean_layer"
    shown = [(name, curves[name]) for name in _PLOTTED if name in (curves or {})]
    for color, (name, entries) in zip(_CURVE_COLORS, shown, strict=False):
        points = [(entry[key] / full, entry[unit.key]) for entry in entries]
        axes.plot(*zip(*points, strict=True), color=color, lw=1.8, label=name, zorder=3)
    oracle_cost = oracle_macs_per_s if cost == "macs_per_s" else oracle["mean_layer"]
    if oracle_cost is not None:
        axes.plot(oracle_cost / full, oracle[unit.key], "*", ms=13, color="black", label="oracle", zorder=5)
    _label_axes(axes, exits, of="MACs" if cost == "macs_per_s" else "layers")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_static(axes, costs: Sequence[float], rows: Sequence[Mapping], unit: ErrorUnit) -> None:
    from matplotlib.patheffects import withStroke

    rates, intervals = [row[unit.key] for row in rows], [row[f"{unit.key}_ci95"] for row in rows]
    # The percentile interval of a skewed sample may not contain the estimate.
    below = [max(0.0, rate - low) for rate, (low, _) in zip(rates, intervals, strict=True)]
    above = [max(0.0, high - rate) for rate, (_, high) in zip(rates, intervals, strict=True)]
    axes.errorbar(
        costs,
        rates,
        yerr=[below, above],
        fmt="o--",
        color="0.35",
        lw=1.2,
        ms=5,
        capsize=3,
        label="static exits (95 %)",
        zorder=4,
    )
    for cost, row, (_, high) in zip(costs, rows, intervals, strict=True):
        axes.annotate(
            f"layer {row['layer']}",
            (cost, high),
            xytext=(4, 2),
            textcoords="offset points",
            fontsize=8,
            color="0.25",
            path_effects=[withStroke(linewidth=3, foreground="white")],  # readable over curves
            zorder=6,
        )


def _label_axes(axes, exits: Mapping, *, of: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    unit = unit_of(exits)
    rates = [row[unit.key] for row in exits["exits"]]
    if min(rates) > 0 and max(rates) > 4 * min(rates):
        # A log scale shows differences of tenths at deep exits and of tens at shallow ones.
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(0, 109)
    axes.set_xlabel(f"share of the full encoder's {of} (%)")
    axes.set_ylabel(f"{unit.singular} error rate (%)")
    axes.set_title(
        f"{exits['test_set']}: {exits['num_utterances']} utterances, {exits['decoding']}",
        fontsize=11,
    )
    axes.grid(True, color="0.9", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: not labels[i].startswith("static"))
    axes.legend([handles[i] for i in order], [labels[i] for i in order], frameon=False, fontsize=9)
