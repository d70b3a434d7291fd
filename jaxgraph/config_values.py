"""Reads one value from text by the type of its field, and says which values a field allows.

YAML 1.1 and Python disagree with people and with each other about `no`, `012`, `1e-4`, `12:30` and
`1_000`. Here the field decides: a text that could mean two things is refused with the one to write.
"""

import math
import re
from difflib import get_close_matches
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from jaxgraph.fields import Range

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def read(text: str, hint: Any) -> Any:
    """Reads a scalar; a `ValueError` says what was got and what is allowed."""
    base, _ = split(hint)
    if is_optional(base):
        return None if text == "null" else read(text, without_none(base))
    if get_origin(base) is Literal:
        for choice in get_args(base):
            if text == str(choice):
                return choice
        raise wrong(show(text), hint, _nearest_choice(text, get_args(base)))
    if base is str:
        return text
    if base is bool and text in _BOOLS:
        return _BOOLS[text]
    # 4300 digits are where int() gives up.
    if base is int and _INT.fullmatch(text) and len(text) < 4300:
        return int(text)
    if base is float and _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise wrong(show(text), hint, _plain_number(text, base))


def read_all(texts: list[str], hint: Any) -> Any:
    """Reads the texts behind one option: one for a scalar, several for a tuple."""
    if is_tuple(hint):
        return tuple(map(read, texts, element_types(hint, len(texts))))
    if len(texts) == 1:
        return read(texts[0], hint)
    raise wrong(f"{len(texts)} values {' '.join(texts)}" if texts else "no value", hint)


def describe(hint: Any) -> str:
    """What a field allows, in words."""
    base, bounds = split(hint)
    if is_optional(base):
        return f"{describe(without_none(base))}, or null"
    if get_origin(base) is Literal:
        return ", ".join(map(str, get_args(base)))
    if is_tuple(base):
        kinds = get_args(base)
        count = "" if kinds[-1] is ... else f"{len(kinds)} values, "
        return f"a list of {count}each {describe(kinds[0])}"
    return " ".join([_WORDS[base], *map(str, bounds)])


def within(value: Any, hint: Any) -> bool:
    """Whether a value of the right type lies in its field's range; NaN and infinity never do."""
    base, bounds = split(hint)
    if is_optional(base):
        return value is None or within(value, without_none(base))
    if is_tuple(base):
        return all(map(within, value, element_types(base, len(value))))
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return all(bound.holds(value) for bound in bounds)


def wrong(got: str, hint: Any, remedy: str = "") -> ValueError:
    return ValueError(f"got {got}; allowed: {describe(hint)}{remedy and f' ({remedy})'}")


def show(value: Any) -> str:
    """The value as Python writes it, cut where it would flood the terminal."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def split(hint: Any) -> tuple[Any, list[Range]]:
    if get_origin(hint) is not Annotated:
        return hint, []
    base, *notes = get_args(hint)
    return base, [note for note in notes if isinstance(note, Range)]


def is_optional(hint: Any) -> bool:
    return NoneType in get_args(hint)


def without_none(hint: Any) -> Any:
    (kind,) = (arg for arg in get_args(hint) if arg is not NoneType)
    return kind


def is_tuple(hint: Any) -> bool:
    return get_origin(split(hint)[0]) is tuple


def element_types(hint: Any, count: int) -> list[Any]:
    """One type for each of `count` elements; a `ValueError` when the tuple has another length."""
    kinds = get_args(split(hint)[0])
    if kinds[-1] is ...:
        return [kinds[0]] * count
    if len(kinds) != count:
        raise wrong(f"{count} values", hint)
    return list(kinds)


def _nearest_choice(text: str, choices: tuple) -> str:
    near = get_close_matches(text.lower(), map(str, choices), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _plain_number(text: str, base: Any) -> str:
    """How to write a number that somebody wrote in a way we refuse, such as `012` or `1_000`."""
    try:
        number = float(text)
    except ValueError:
        return ""
    if base is int and number.is_integer() and abs(number) < 2**53:
        return f"write {int(number)}"
    if base is float and math.isfinite(number):
        return f"write {number:g}"
    return ""
