# SPDX-License-Identifier: Apache-2.0
"""Draw what policies do over the exits: python docs/figures/policies.py.

Writes policies.svg beside this script. The scores of the three utterances are made up; the policies of the package
decide where each utterance stops.
"""

from html import escape
from pathlib import Path

from ee_runtime.policies import Capped, FixedExit, Look, Patience, Policy, ScoreThreshold

OUT = Path(__file__).with_suffix(".svg")
EXIT_LAYERS = (1, 2, 3, 4, 5, 6)
# Entropy and agreement with the previous exit, at each exit.
UTTERANCES = {
    "easy utterance": ((0.09, 0.04, 0.03, 0.02, 0.02, 0.01), (0.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
    "average utterance": ((0.31, 0.18, 0.08, 0.04, 0.03, 0.02), (0.0, 0.6, 0.9, 1.0, 1.0, 1.0)),
    "hard utterance": ((0.52, 0.44, 0.35, 0.24, 0.15, 0.08), (0.0, 0.3, 0.5, 0.7, 0.8, 0.9)),
}
POLICIES: dict[str, Policy] = {
    "full depth": FixedExit(),
    "static exit at layer 3": FixedExit(3),
    "entropy of at most 0.05": ScoreThreshold("entropy", 0.05),
    "same text as the exit before": Patience(1),
    "entropy, at most 4 layers": Capped(ScoreThreshold("entropy", 0.05), max_layer=4),
}
LEFT, CELL, GAP, ROW = 236, 34, 24, 44  # first column, size of a cell, distance of utterances and of rows (pixels)
TOP = 128  # of the first policy
GROUP = len(EXIT_LAYERS) * CELL + GAP
WIDTH, HEIGHT = LEFT + len(UTTERANCES) * GROUP, TOP + len(POLICIES) * ROW + 52
INK, RUN, STOP, SKIPPED = "#24292f", "#cfe3f7", "#d8eed2", "#ffffff"


def exit_taken(policy: Policy, entropies: tuple[float, ...], agreements: tuple[float, ...]) -> int:
    """Return the exit index at which a policy stops an utterance."""
    scores = [{"entropy": e, "agreement": a} for e, a in zip(entropies, agreements, strict=True)]
    for index in range(len(EXIT_LAYERS)):
        look = Look(exit_index=index, exit_layers=EXIT_LAYERS, scores=scores[: index + 1])
        if policy.cuts(look) or policy.stop(look):
            return index
    raise AssertionError("a policy stops at the last exit")


def text(x: float, y: float, content: str, *, anchor: str = "start", size: int = 14, weight: str = "normal") -> str:
    """Return one line of text."""
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">'
        f"{escape(content)}</text>"
    )


def cells(x: float, y: float, taken: int) -> list[str]:
    """Return the layers of an utterance: those that run, the exit taken, and those that are never computed."""
    parts = []
    for index, layer in enumerate(EXIT_LAYERS):
        fill = STOP if index == taken else RUN if index < taken else SKIPPED
        dashes = ' stroke-dasharray="3 3"' if index > taken else ""
        parts.append(
            f'<rect x="{x + index * CELL}" y="{y}" width="{CELL - 4}" height="28" rx="4" fill="{fill}" stroke="{INK}"'
            f"{dashes}/>"
        )
        if index <= taken:
            parts.append(
                text(
                    x + index * CELL + CELL / 2 - 2,
                    y + 19,
                    str(layer),
                    anchor="middle",
                    weight="bold" if index == taken else "normal",
                )
            )
    return parts


def header(x: float, name: str, entropies: tuple[float, ...]) -> list[str]:
    """Return the name of an utterance and its entropy at each exit."""
    values = [
        text(x + index * CELL + CELL / 2 - 2, 108, f"{value:.2f}", anchor="middle", size=12)
        for index, value in enumerate(entropies)
    ]
    return [text(x, 76, name, weight="bold"), *values]


def legend(y: float) -> list[str]:
    """Return the meaning of the colours."""
    parts, x = [], 24
    for fill, meaning in (
        (RUN, "layer that runs"),
        (STOP, "last layer that runs: exit taken"),
        (SKIPPED, "never computed"),
    ):
        dashes = ' stroke-dasharray="3 3"' if fill == SKIPPED else ""
        parts.append(f'<rect x="{x}" y="{y}" width="20" height="20" rx="4" fill="{fill}" stroke="{INK}"{dashes}/>')
        parts.append(text(x + 28, y + 15, meaning))
        x += 64 + 7 * len(meaning)
    return parts


def draw() -> str:
    """Return the figure as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="14" fill="{INK}" role="img">',
        "<title>Five policies on three utterances: the layers that run, and the exit taken</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        text(24, 34, "Five policies on three utterances (made-up scores): the layers that run", weight="bold"),
        text(24, 108, "entropy at each exit"),
    ]
    for column, (name, (entropies, agreements)) in enumerate(UTTERANCES.items()):
        x = LEFT + column * GROUP
        parts += header(x, name, entropies)
        for row, policy in enumerate(POLICIES.values()):
            parts += cells(x, TOP + row * ROW, exit_taken(policy, entropies, agreements))
    parts += [text(24, TOP + row * ROW + 19, name) for row, name in enumerate(POLICIES)]
    return "\n".join([*parts, *legend(HEIGHT - 38), "</svg>\n"])


if __name__ == "__main__":
    OUT.write_text(draw(), "utf-8")
