"""Text for a terminal: aligned, and escaped, since some of it was sent by strangers."""

import time
from collections.abc import Iterable, Sequence
from typing import Final


def plain(text: object) -> str:
    """Without line breaks or control characters: what is not printable is shown as its escape."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def columns(rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    """The rows with their columns aligned, those numbered in `right` to the right. Empty for no rows."""
    texts = [[plain(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numbers = set(right)
    lines = (
        "  ".join(
            text.rjust(width) if place in numbers else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in texts
    )
    return "\n".join(lines)


def lamports(amount: int) -> str:
    return f"{amount:,}"


def span(seconds: float) -> str:
    """A length of time in its two largest units; what is negative is past."""
    if seconds < 0:
        return "past"
    for size, unit, smaller_size, smaller in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}{int(seconds % size // smaller_size):02d}{smaller}"
    return f"{int(seconds)}s"


def moment(at: int | None) -> str:
    """A moment of the chain's clock, UTC."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


_UNITS: Final = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s"))
