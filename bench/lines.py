"""One line of a benchmark, the table that is printed, and the file that keeps the lines of every chapter."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

RESULTS: Final = Path(__file__).with_name("results.json")
REASON_CHARACTERS: Final = 200
HEADINGS: Final = ("line", "unit", "ours", "bare", "peer", "ratio", "goal", "met")


@dataclass(frozen=True, slots=True)
class Goal:
    """What must hold of our figure, or of its ratio to the bare (else the peer's) figure of the same run."""

    of: Literal["ours", "ratio"]
    sign: Literal["<=", ">="]
    value: float

    def __str__(self) -> str:
        return f"{self.of} {self.sign} {self.value:g}"

    def is_met(self, figure: float) -> bool:
        return figure <= self.value if self.sign == "<=" else figure >= self.value


@dataclass(frozen=True, slots=True)
class Line:
    """`bare` is the least that anybody could do, `peer` another system. An absolute figure's unit names the machine."""

    line: str
    unit: str
    ours: float | None
    """None: it could not be measured, and the unit says why."""
    bare: float | None = None
    peer: float | None = None
    goal: Goal | None = None
    """None: it stands beside another line."""
    limit: str = ""
    """What limits the figure, as measured; printed where the goal is not reached."""

    @property
    def ratio(self) -> float | None:
        divisor = self.bare if self.bare is not None else self.peer
        return self.ours / divisor if divisor and self.ours is not None else None

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        figure = self.ours if self.goal.of == "ours" else self.ratio
        return figure is not None and self.goal.is_met(figure)

    def __str__(self) -> str:
        figures = {"ours": self.ours, "bare": self.bare, "peer": self.peer, "ratio": self.ratio}
        known = [f"{name} {_rounded(figure):g}" for name, figure in figures.items() if figure is not None]
        return f"{self.line}: {', '.join([*known, self.unit])}"

    def as_row(self, chapter: str) -> dict[str, Any]:
        return {
            "chapter": chapter,
            "line": self.line,
            "unit": self.unit,
            "ours": _rounded(self.ours),
            "bare": _rounded(self.bare),
            "peer": _rounded(self.peer),
            "ratio": _rounded(self.ratio),
            "goal": None if self.goal is None else str(self.goal),
            "met": self.met,
        }


def not_measured(what: str, why: BaseException) -> Line:
    reason = " ".join(str(why).split())[:REASON_CHARACTERS]
    return Line(what, f"not measured: {type(why).__name__}: {reason}", None)


def save(chapter: str, lines: Sequence[Line], path: Path = RESULTS) -> None:
    """Replace the chapter's lines; those of the others stay. What was not measured takes no figure away."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if all(line.ours is None for line in lines) and any(row["chapter"] == chapter for row in kept):
        return
    rows = [row for row in kept if row["chapter"] != chapter] + [line.as_row(chapter) for line in lines]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(lines: Sequence[Line]) -> str:
    """As Markdown, and below it why a goal is not reached."""
    rows = [[_shown(line.as_row("")[heading]) for heading in HEADINGS] for line in lines]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    made = [_row(HEADINGS, widths), _row(["-" * width for width in widths], widths)]
    made += [_row(row, widths) for row in rows]
    made += [
        f"\nNot reached: {line.line}. {line.limit or _missed_by(line)}" for line in lines if line.met is False
    ]
    return "\n".join(made)


def percentile(figures: Sequence[float], percent: int) -> float:
    return statistics.quantiles(figures, n=100, method="inclusive")[percent - 1]


def _missed_by(line: Line) -> str:
    """For a line that names no limit."""
    assert line.goal is not None
    figure = _rounded(line.ours if line.goal.of == "ours" else line.ratio)
    seen = f"was {figure:g}" if figure is not None else "was not measured"
    return f"It {seen}, the goal is {line.goal}; what limits it is not known."


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float() | int():
            return f"{value:g}"
        case _:
            return str(value)


def _rounded(figure: float | None) -> float | None:
    """To four digits: more would pretend."""
    return None if figure is None else float(f"{figure:.4g}")
