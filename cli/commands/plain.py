"""Text for a terminal: aligned, and escaped, since some of it was sent by strangers."""

from collections.abc import Iterable, Sequence


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
