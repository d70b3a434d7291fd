"""Rows of all systems, and how one travels to the two processes that measure it."""

import dataclasses
import json
from types import ModuleType
from typing import Any, Protocol

from bench import cases, latentwire_cases, neurograph_cases, vae_cases

SYSTEMS: dict[str, ModuleType] = {
    "latentwire": latentwire_cases,
    "moe": cases,
    "neurograph": neurograph_cases,
    "vae": vae_cases,
}
"""Each has a dataclass `Row`, `add_arguments`, `make_rows`, and the defaults `FULL` and `SMALL`."""


class Row(Protocol):
    """What is asked of a row, besides what its own two sides read."""

    system: str
    modules: tuple[str, str]
    """Processes to start: our side, and the reference's."""
    name: str
    threads: int
    dtype: str
    trains: bool
    """Whether a call changes the weights."""
    drift: float
    """Share of the learned by which the sides may differ after training: their draws differ."""
    items: int
    """Tokens or samples of one step."""
    unmatched: str
    """Why a row has no reference; empty if it has one."""
    rival: "Row | None"
    """Work of ours that a row without a reference is measured against."""


def write_row(row: Row) -> str:
    return json.dumps({"system": row.system} | dataclasses.asdict(row))


def read_row(text: str) -> Any:
    tree = json.loads(text)
    return SYSTEMS[tree.pop("system")].Row.from_dict(tree)
