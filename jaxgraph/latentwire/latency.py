"""How long an answer takes, through the wire and from the text."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxgraph.latentwire.hearer import Frozen
from jaxgraph.latentwire.modules import Modules
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate

REPEATS = 5


def latencies(
    modules: Modules, name: str, params: Any, frozen: Frozen, example: Any, tokens: int
) -> dict[str, float]:
    """Milliseconds for one example, medians of some calls behind a first that compiles.

    Every answer has `tokens` tokens: nothing stops it earlier.
    """
    hearer, own = modules.hearers[name], example[name]
    sampling = Sampling(max_new_tokens=tokens)
    text = own["text"][:, -own["text_mask"].sum() :]  # without its padding

    @jax.jit
    def encode(params: Any, frozen: Frozen, example: Mapping[str, Any]) -> Any:
        z = modules.encode(params, example).of(name)
        return modules.hear(params, frozen, name, z)

    def hear() -> Any:
        before = encode(params, frozen, example)
        return say(before.vectors, before.mask, past=before.past, reading=before.reading)

    say = partial(generate, hearer.model, frozen.lm, sampling=sampling)
    ways: dict[str, Callable[[], Any]] = {
        "encoder and adapter": lambda: encode(params, frozen, example),
        "an answer through the wire, encoder included": hear,
        "an answer from the text": lambda: say(text),
    }
    return {f"ms, {way}": _median(call) for way, call in ways.items()}


def _median(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(1 + REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1000 * (time.perf_counter() - begun))
    return float(np.median(times[1:]))
