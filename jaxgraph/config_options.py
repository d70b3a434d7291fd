"""Checks command-line options before tyro reads them, so that all problems come in one message."""

import re
from typing import Any

from jaxgraph.config_keys import sections_of, suggest
from jaxgraph.config_values import read_all, show
from jaxgraph.errors import UserError

# `-1` and `-.5` are values.
_OPTION = re.compile(r"--?[A-Za-z_]")


def split(argv: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The texts behind each option (`--a b`, `--a=b`, `-` for `_`), and what is wrong with them."""
    given: dict[str, list[str]] = {}
    pairs: list[tuple[str, list[str]]] = []
    problems = []
    for token in argv:
        if _OPTION.match(token):
            name, equals, text = token.lstrip("-").partition("=")
            name = name.replace("-", "_")
            pairs.append((name, [text] if equals else []))
            if not token.startswith("--"):
                problems.append(f"{token}: options begin with two dashes; write --{name}")
        elif pairs:
            pairs[-1][1].append(token)
        else:
            problems.append(f"{token!r}: a value without an option; write --NAME {token}")
    for name, texts in pairs:
        if name in given:
            both = f"{' '.join(given[name])!r} and {' '.join(texts)!r}"
            problems.append(f"--{name}: given twice, {both}; keep one")
        given[name] = texts
    return given, problems


def take(given: dict[str, list[str]], name: str, hint: Any) -> Any:
    """The value of an option that must be known before all others, or None."""
    try:
        return read_all(given[name], hint) if name in given else None
    except ValueError as error:
        raise UserError(f"--{name}: {error}") from error


def check(given: dict[str, list[str]], types: dict[str, Any]) -> list[str]:
    """Every option that has no field or whose texts its field cannot read, one line each."""
    problems = []
    for name, texts in given.items():
        if name in types:
            try:
                read_all(texts, types[name])
            except ValueError as error:
                problems.append(f"--{name}: {error}")
        else:
            is_section = name in sections_of(types)
            what = "a section, not an option" if is_section else "unknown option"
            value = show(" ".join(texts)) if texts else "no value"
            # With its dot a section suggests what is in it.
            remedy = suggest(f"{name}." if is_section else name, list(types), "--")
            problems.append(f"--{name}: {what} (got {value}); {remedy}")
    return problems


def to_argv(given: dict[str, list[str]]) -> list[str]:
    """The options in the one spelling that tyro cannot misread: `-x` may be a value."""
    single = [f"--{name}={texts[0]}" for name, texts in given.items() if len(texts) == 1]
    several = [[f"--{name}", *texts] for name, texts in given.items() if len(texts) != 1]
    return [*single, *sum(several, [])]
