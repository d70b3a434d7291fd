"""Says whether a run may go on under a changed config."""

from fnmatch import fnmatchcase
from typing import Any

# The first rule that matches decides; `*` also matches dots.
RULES = [
    ("system", "refused"),
    ("seed", "refused"),
    ("workdir", "changed"),
    ("train.*", "changed"),
    ("parallel.*", "changed"),
    ("task.model.*", "refused"),
    ("task.data.*", "refused"),
    ("task.dataset", "refused"),
    ("task.images.*", "refused"),
    ("task.stream.address", "changed"),
    ("task.stream.*", "refused"),
    ("task.objective.controller.target", "refused"),  # its state is in `extra`
    ("task.objective.*", "changed"),
    ("task.separability.*", "changed"),
    ("task.optim.trainable", "refused"),
    ("task.optim.*.schedule.*", "changed"),
    ("task.optim.*.kind", "refused"),
    ("task.optim.*", "changed"),
    ("task.sampling.*", "changed"),
    ("task.mode", "refused"),
    ("task.learning.graph.*", "refused"),
    ("task.learning.cell.*", "refused"),
    ("task.learning.loss.*", "changed"),
    ("task.learning.optim.*", "changed"),
    ("task.learning.*", "refused"),
    ("task.faithful.*", "refused"),
    ("task.lms", "refused"),
    ("task.encoder.*", "refused"),
    ("task.adapter.*", "refused"),
    ("task.losses.*", "changed"),
    ("task.compute.*", "changed"),
    ("task.evaluation.*", "changed"),
    # What no rule knows, for example an option of another version, might change anything.
    ("*", "refused"),
]

_ABSENT = object()


def resume_conflicts(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Dotted keys in which two configs, as of `to_dict`, differ.

    Returns:
      refused: keys of the model, the data order and the layout of the optimiser state, with which
        the old checkpoint cannot continue.
      changed: all others.
    """
    old, new = flatten(old), flatten(new)
    differ = [key for key in {**old, **new} if old.get(key, _ABSENT) != new.get(key, _ABSENT)]
    refused = [key for key in differ if decides(key) == "refused"]
    return refused, [key for key in differ if key not in refused]


def decides(key: str) -> str:
    return next(verdict for pattern, verdict in RULES if fnmatchcase(key, pattern))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
