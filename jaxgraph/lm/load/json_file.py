"""JSON files of a model's folder, and values out of them, with errors that name the file."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgraph.errors import UserError


def read_object(path: Path) -> dict[str, Any]:
    """The object in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}; expected an object")
    return content


def positive(content: Mapping[str, Any], key: str, where: Any, kind: type, default: Any = None):
    """A number above 0 under a key, or the default where the key is absent or null."""
    value = content.get(key)
    if value is None:
        value = default
    right = isinstance(value, int) or (kind is float and isinstance(value, float))
    if not right or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{key} of {where} is {value!r}; expected {kind.__name__} above 0")
    return kind(value)
