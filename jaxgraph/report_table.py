"""Findings of an evaluation as text: what `evaluate_more` of a task returns, for a terminal.

Findings are sections by title. A section is a value, values by name, or a table: a list of dicts
with the same keys. Values are text, numbers, booleans, None (nothing was found) or two numbers,
which are an interval; nothing else, so that findings are JSON as they are.
"""

from collections.abc import Iterator
from typing import Any

GAP = "  "


def to_text(findings: dict[str, Any]) -> str:
    """One block per section, columns aligned."""
    return "\n".join(line for title, section in findings.items() for line in _block(title, section))


def to_cell(value: Any) -> str:
    """A value as it is printed: four significant digits, or six of large numbers."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 100 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_cell, value))}]"
    return str(value)


def _block(title: str, section: Any) -> Iterator[str]:
    if isinstance(section, dict):
        yield title
        yield from _aligned([[name, to_cell(value)] for name, value in section.items()])
    elif isinstance(section, list) and section and isinstance(section[0], dict):
        yield title
        header = list(section[0])
        yield from _aligned([header, *([to_cell(row[name]) for name in header] for row in section)])
    else:
        yield f"{title}: {to_cell(section)}"


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield (GAP + GAP.join(cells)).rstrip()
