"""The options of nested dataclasses as dotted keys: types, nearest names, values and checks."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

from jaxgraph.config_values import describe, show, within
from jaxgraph.errors import UserError

Tree = TypeVar("Tree")


def parts_of(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dataclasses of a tree, each with the prefix of its keys."""
    yield prefix, tree
    for field in fields(tree):
        value = getattr(tree, field.name)
        if is_dataclass(value):
            yield from parts_of(value, f"{prefix}{field.name}.")


def options_of(tree: Any) -> Iterator[tuple[str, Any, Any]]:
    """Key, type and value of every option."""
    for prefix, part in parts_of(tree):
        hints = get_type_hints(type(part), include_extras=True)
        for field in fields(part):
            value = getattr(part, field.name)
            if not is_dataclass(value):
                yield prefix + field.name, hints[field.name], value


def types_of(tree: Any) -> dict[str, Any]:
    return {key: hint for key, hint, _ in options_of(tree)}


def sections_of(types: dict[str, Any]) -> list[str]:
    parts = [key.split(".")[:-1] for key in types]
    return list(dict.fromkeys(".".join(p[: i + 1]) for p in parts for i in range(len(p))))


def overlay(tree: Tree, values: dict[str, Any], prefix: str = "") -> Tree:
    """Lays values given by dotted key over a tree of dataclasses."""
    changes = {}
    for field in fields(tree):
        key, old = prefix + field.name, getattr(tree, field.name)
        if is_dataclass(old):
            changes[field.name] = overlay(old, values, f"{key}.")
        elif key in values:
            changes[field.name] = values[key]
    return replace(tree, **changes)


def check(tree: Any, labels: dict[str, str]) -> list[str]:
    """Every value outside its range and every impossible combination, one line each.

    Args:
      tree: dataclasses, asked for their `problems()` if all values in them are in range.
      labels: what to call a key, for example where it was set.
    """
    found = [
        (key, f"got {show(value)}; allowed: {describe(hint)}")
        for key, hint, value in options_of(tree)
        if not within(value, hint)
    ]
    outside = [key for key, _ in found]
    for prefix, part in parts_of(tree):
        if hasattr(part, "problems") and not any(key.startswith(prefix) for key in outside):
            found += [(prefix + name, message) for name, message in part.problems()]
    return [f"{labels.get(key, key)}: {message}" for key, message in found]


def stop(problems: list[str]) -> None:
    """Ends with one message if there are problems."""
    if len(problems) == 1:
        raise UserError(problems[0])
    if problems:
        raise UserError("\n  ".join([f"{len(problems)} problems in the configuration:", *problems]))


def suggest(key: str, names: list[str], dashes: str = "") -> str:
    """What to write instead of the unknown `key`: the nearest of `names`, or all that are near."""
    last = [name.rpartition(".")[2] for name in names]
    near_last = get_close_matches(key.rpartition(".")[2].lower(), last, n=1)
    candidates = [name for name, part in zip(names, last, strict=True) if part in near_last]
    # A bare `lr` may mean any of several; a full key means one.
    near = get_close_matches(key, candidates, n=1 if "." in key else 3, cutoff=0)
    if near:
        return "did you mean " + " or ".join(f"'{dashes}{name}'" for name in near) + "?"
    section = _deepest_section(key, names)
    inside = [name for name in names if name.startswith(section)]
    inside = dict.fromkeys(section + name[len(section) :].split(".")[0] for name in inside)
    return f"allowed: {', '.join(dashes + name for name in inside)}"


def _deepest_section(key: str, names: list[str]) -> str:
    """The longest start of `key`, up to and with a dot, that some name shares."""
    while key:
        key = key[: key.rfind(".") + 1]
        if any(name.startswith(key) for name in names):
            break
        key = key[:-1]
    return key
