"""`python -m bench.plot`: draws the lines of bench/results.json to docs/performance.png, a panel for each chapter.

A line is there where it has a ratio, to the bare figure or else to the peer's; a goal of the ratio is a mark on it. The
scale is logarithmic, so that twice and half lie equally far from 1. It needs matplotlib.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from bench.lines import RESULTS
from bench.peers import is_installed

PICTURE: Final = Path(__file__).parent.parent / "docs" / "performance.png"
COLOURS: Final = {True: "#2e7d4f", False: "#c0532f", None: "#8a8f98"}
MEANINGS: Final = {True: "goal met", False: "goal not met", None: "no goal"}
INCHES_A_LINE: Final = 0.3
NAME_CHARACTERS: Final = 72


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Raises ValueError where no line has a ratio, ModuleNotFoundError without matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 # installed by whoever wants the picture

    mpl.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    chapters = drawn(rows)
    if not chapters:
        raise ValueError("no line has a ratio")
    heights = [len(lines) + 3 for lines in chapters.values()]
    figure, panels = pyplot.subplots(
        len(chapters),
        figsize=(11, INCHES_A_LINE * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for panel, (chapter, lines) in zip(panels[:, 0], chapters.items(), strict=True):
        _draw_chapter(panel, chapter, lines)
    handles = [Patch(color=COLOURS[met], label=MEANINGS[met]) for met in COLOURS]
    handles.append(panel.scatter([], [], marker=5, s=70, color="black", label="goal, pointing to where it is met"))
    figure.legend(handles=handles, fontsize=8, ncols=4, loc="outside lower center", frameon=False)
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)


def drawn(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The lines with a ratio, by chapter."""
    chapters: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: str(row["chapter"])):
        if row["ratio"]:
            chapters.setdefault(row["chapter"], []).append(row)
    return chapters


def _draw_chapter(panel: Any, chapter: str, lines: list[dict[str, Any]]) -> None:
    places = range(len(lines))
    ratios = [line["ratio"] for line in lines]
    panel.set_xscale("log")
    panel.barh(
        places,
        [ratio - 1 for ratio in ratios],
        left=1,
        height=0.62,
        color=[COLOURS[line["met"]] for line in lines],
    )
    goals = [
        (place, *goal_of_ratio(line)) for place, line in zip(places, lines, strict=True) if goal_of_ratio(line)
    ]
    for sign, mark in ((">=", 5), ("<=", 4)):  # a caret towards where the goal is met
        of_sign = [(value, place) for place, found, value in goals if found == sign]
        if of_sign:
            panel.scatter(*zip(*of_sign, strict=True), marker=mark, s=70, color="black", zorder=3)
    for place, ratio in zip(places, ratios, strict=True):  # as a column, where no bar or mark lies below them
        panel.text(1.01, place, f"{ratio:.3g}", transform=panel.get_yaxis_transform(), va="center", fontsize=8)
    panel.axvline(1, color="black", linewidth=0.8)
    every = [*ratios, *(value for _, _, value in goals)]
    panel.set_xlim(min(0.5, *every) / 1.4, max(2, *every) * 1.4)
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 100, 300, 1000) if _within(panel, tick)]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_yticks(places, [_name(line) for line in lines], fontsize=8)
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title(f"{chapter}: ours through bare, or through the peer where the name has one", fontsize=10)


def _within(panel: Any, tick: float) -> bool:
    least, most = panel.get_xlim()
    return bool(least <= tick <= most)


def goal_of_ratio(line: dict[str, Any]) -> tuple[str, float] | None:
    """Sign and value; None where the goal is of our figure, or there is none."""
    of, _, rest = (line["goal"] or "").partition(" ")
    if of != "ratio":
        return None
    sign, _, value = rest.partition(" ")
    return sign, float(value)


def _name(line: dict[str, Any]) -> str:
    name: str = line["line"]
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"


def main() -> None:
    if not is_installed("matplotlib"):
        sys.exit("matplotlib is not installed: pip install -e '.[bench]'")
    if not RESULTS.exists():
        sys.exit(f"{RESULTS} is not there: make bench writes it")
    draw(json.loads(RESULTS.read_text(encoding="utf-8")), PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
