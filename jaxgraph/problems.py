"""Everything that is wrong with a set of names, said in one error."""

from collections.abc import Iterable
from difflib import get_close_matches

from jaxgraph.errors import UserError

SUGGESTIONS = 50
"""Names that get a suggestion; comparing thousands with thousands takes minutes."""


class Problems:
    """Collects problems and raises them together."""

    def __init__(self, title: str):
        self.title = title
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        self.lines.append(line)

    def compare_names(self, kind: str, *, expected: Iterable[str], got: Iterable[str]) -> None:
        """Adds a line for each missing and each unexpected name, with the nearest other one."""
        expected, got = list(expected), list(got)
        missing = sorted(set(expected) - set(got))
        unexpected = sorted(set(got) - set(expected))
        for name in missing:
            self.add(f"missing {kind} {name}{self._nearest(name, unexpected, 'unexpected')}")
        for name in unexpected:
            self.add(f"unexpected {kind} {name}{self._nearest(name, missing, 'missing')}")

    def raise_if_any(self) -> None:
        if self.lines:
            raise UserError("\n  ".join([f"{self.title}:", *self.lines]))

    def _nearest(self, name: str, others: list[str], what: str) -> str:
        if len(self.lines) >= SUGGESTIONS or len(others) > SUGGESTIONS:
            return ""
        close = get_close_matches(name, others, n=1, cutoff=0.8)
        return f" (nearest {what}: {close[0]})" if close else ""
