# SPDX-License-Identifier: Apache-2.0
"""Draw the architecture figure of the README: python docs/figures/architecture.py.

Writes architecture.svg beside this script. The figure has a solid light background, so it is readable in dark mode.
"""

import itertools
from html import escape
from pathlib import Path

OUT = Path(__file__).with_suffix(".svg")
WIDTH, HEIGHT = 960, 372
LEFT, STEP, BOX = 250, 180, 140  # first segment, distance between segments, width of a box (pixels)
ROWS = {"policy": 96, "score": 156, "head": 216, "segment": 292}  # top of each row
HEIGHTS = {"policy": 38, "score": 38, "head": 38, "segment": 56}
FILLS = {"segment": "#cfe3f7", "head": "#fde3c0", "score": "#e9e4f5", "policy": "#d8eed2", "input": "#eceff3"}
INK = "#24292f"


def box(x: float, y: float, width: float, height: float, fill: str, *lines: str) -> str:
    """Return a rounded box with centred lines of text."""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{INK}"/>']
    top = y + height / 2 - 9 * (len(lines) - 1) + 5
    parts += [text(x + width / 2, top + 18 * row, line) for row, line in enumerate(lines)]
    return "\n".join(parts)


def text(x: float, y: float, content: str, *, anchor: str = "middle", weight: str = "normal") -> str:
    """Return one line of text."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return an arrow from one point to another."""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" stroke-width="1.5" marker-end="url(#tip)"/>'


def exit_column(column: int, index: int, layers: str, *, is_last: bool) -> str:
    """Return one segment with its exit head, exit score and policy."""
    x = LEFT + column * STEP
    middle = x + BOX / 2
    labels = {
        "segment": (f"segment {index}", layers),
        "head": (f"exit head {index}",),
        "score": ("exit score",),
        "policy": ("policy: stop?",),
    }
    if is_last:
        del labels["score"], labels["policy"]
    parts = [box(x, ROWS[row], BOX, HEIGHTS[row], FILLS[row], *lines) for row, lines in labels.items()]
    names = list(labels)[::-1]
    for upper, lower in itertools.pairwise(names):
        parts.append(arrow(middle, ROWS[lower], middle, ROWS[upper] + HEIGHTS[upper] + 2))
    parts += [arrow(middle, ROWS[names[0]], middle, 66), text(middle, 56, "text", weight="bold")]
    if not is_last:
        parts.append(text(middle + 8, 86, "yes", anchor="start"))
        y = ROWS["segment"] + HEIGHTS["segment"] / 2
        parts.append(arrow(x + BOX, y, x + STEP - 2, y))
        right = x + BOX + (STEP - BOX) / 2
        policy = ROWS["policy"] + HEIGHTS["policy"] / 2
        parts += [
            f'<path d="M {x + BOX} {policy} H {right} V {y - 4}" fill="none" stroke="{INK}" stroke-dasharray="4 4" '
            'marker-end="url(#tip)"/>',
            text(right - 4, policy - 8, "no", anchor="middle"),
        ]
    return "\n".join(parts)


def draw() -> str:
    """Return the figure as SVG."""
    segment = ROWS["segment"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="14" fill="{INK}" role="img">',
        "<title>An encoder with exits: after each segment a policy decides whether to stop</title>",
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M 0 0 L 8 4 L 0 8 z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        text(24, 28, "One encoder; each utterance runs only the segments that it needs", anchor="start", weight="bold"),
        box(24, segment, 70, HEIGHTS["segment"], FILLS["input"], "audio"),
        box(124, segment, 96, HEIGHTS["segment"], FILLS["input"], "features"),
        arrow(94, segment + 28, 122, segment + 28),
        arrow(220, segment + 28, LEFT - 2, segment + 28),
        exit_column(0, 0, "front-end, layer 1", is_last=False),
        exit_column(1, 1, "layer 2", is_last=False),
        text(LEFT + 2 * STEP + BOX / 2, segment + 33, "segments 2, 3, 4"),
        arrow(LEFT + 2 * STEP + BOX, segment + 28, LEFT + 3 * STEP - 2, segment + 28),
        exit_column(3, 5, "layer 6", is_last=True),
    ]
    labels = {"policy": "stop or continue", "score": "certainty of the model", "head": "log-probabilities of tokens"}
    parts += [text(24, ROWS[row] + 24, label, anchor="start") for row, label in labels.items()]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    OUT.write_text(draw(), "utf-8")
