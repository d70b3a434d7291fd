"""What the frozen models think of each answer behind the text itself, found once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.latentwire.config import Losses
from jaxgraph.latentwire.hearer import Frozen, Hearer
from jaxgraph.latentwire.losses import kept

ROWS = 32
"""Examples at once."""
Arrays = dict[str, np.ndarray]


def taught(hearer: Hearer, frozen: Frozen, losses: Losses, rows: Arrays) -> Arrays:
    """`taught_ids` and `taught_logs` ``[n k c]`` of rows with `text`, `answer` and their masks: the
    likeliest tokens of the first K places."""
    steps = max(losses.curriculum.first_steps, losses.curriculum.last_steps)
    count = min(losses.distil_cache, hearer.model.arch.vocab_size)

    @partial(jax.jit, static_argnames="steps")
    def ask(frozen: Frozen, block: Any, steps: int) -> Any:
        read = hearer.text_pass(
            frozen, block["text"], block["text_mask"], block["answer"][:, :steps],
            block["answer_mask"][:, :steps],
        )  # fmt: skip
        return kept(read.logits, count, losses.temperature)

    total, steps = len(rows["text"]), min(steps, rows["answer"].shape[1])
    names = ("text", "text_mask", "answer", "answer_mask")
    found = []
    for start in range(0, total, ROWS):
        # The last block is filled up, so that all have one shape.
        at = np.minimum(np.arange(start, start + ROWS), total - 1)
        found.append(ask(frozen, {name: jnp.asarray(rows[name][at]) for name in names}, steps))
    ids, logs = (np.concatenate(part)[:total] for part in zip(*jax.device_get(found), strict=True))
    return {"taught_ids": ids, "taught_logs": logs}
