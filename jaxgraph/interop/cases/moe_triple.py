"""The original's triple coupler, for the golden cases that have it (spec/moe.md, section 8).

Ours (`moe/triple.py`) lets parts appear gradually and shares the weight of absent ones; here they
appear at level 0.1, and the weight of absent ones is lost.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgraph.interop.case import Case, Checks

LEVELS = {"out/triple_all_active": (0.5, 0.9), "out/triple_dormant": (0.05, 0.1)}
"""Levels of the two ghosts under which the entries were recorded."""
AWAKE = 0.1
PARTS = ("primary", "ghost", "mixed")
TENSOR = re.compile(r"(?P<owner>.*?)(?P<name>hyperedge_weights|(hgnn_layers_module|combiner)\..+)")
Tensors = dict[str, np.ndarray]


def check(case: Case, checks: Checks) -> None:
    """Output of the coupler with its ghosts awake and asleep; nothing if its names are others."""
    found = split_parts(case.below("triple/"))
    if found is None:
        return
    mix, parts = found
    outputs = jnp.asarray(case["in/triple_outputs"])
    for name, levels in LEVELS.items():
        checks.compare(name, triple(mix, parts, outputs, levels), "value")


def split_parts(tensors: Tensors) -> tuple[np.ndarray, dict[str, Tensors]] | None:
    """The three logits, and each coupler's tensors under its own names.

    The specification gives the names within a coupler, but not those of the couplers: here each
    must have one of the words of `PARTS` in it. None if that does not lead to three couplers of
    one hyperedge each and one vector of logits.
    """
    parts: dict[str, Tensors] = {part: {} for part in PARTS}
    logits = []
    for key, tensor in tensors.items():
        match = TENSOR.fullmatch(key)
        owners = [part for part in PARTS if match and part in match["owner"]]
        if len(owners) == 1:
            parts[owners[0]][match["name"]] = tensor
        elif tensor.shape == (3,):
            logits.append(tensor)
    one_edge = all(part.get("hyperedge_weights", np.ones(1)).size == 1 for part in parts.values())
    if len(logits) != 1 or not all(parts.values()) or not one_edge:
        return None
    return logits[0], parts


def triple(
    mix: np.ndarray,
    parts: dict[str, Tensors],
    outputs: Float[Array, "n b t d"],
    levels: tuple[float, ...],
) -> Float[Array, "b t d"]:
    """softmax(c) · (primary, ghost, mixed): ghosts from two awake ones on, mixed from one on."""
    count = len(outputs) - len(levels)
    awake = sum(level > AWAKE for level in levels)
    nodes = {"primary": outputs[:count], "ghost": outputs[count:], "mixed": outputs}
    present = {"primary": True, "ghost": awake >= 2, "mixed": awake >= 1}
    shares = jax.nn.softmax(jnp.asarray(mix))
    terms = [
        share * couple(parts[part], nodes[part])
        for part, share in zip(PARTS, shares, strict=True)
        if present[part]
    ]
    return sum(terms[1:], terms[0])


def couple(tensors: Tensors, nodes: Float[Array, "n b t d"]) -> Float[Array, "b t d"]:
    """One hypergraph coupler over a single edge with all its nodes (strategy `all`).

    The first commits pass the edge's weight w to a convolution that divides by degrees Σ w and
    multiplies by w nowhere, so that the mean over the edge comes out as mean/w (spec 3.3).
    """
    get = lambda name: jnp.asarray(tensors[name])  # noqa: E731
    degree = get("hyperedge_weights")[0] if "hyperedge_weights" in tensors else 1.0
    # After one convolution with a single edge all nodes are equal, and so is their mean.
    pooled, j = nodes.mean(0), 0
    while f"hgnn_layers_module.{j}.bias" in tensors:
        key = f"hgnn_layers_module.{j}"
        pooled = pooled @ get(f"{key}.lin.weight").T / degree + get(f"{key}.bias")[None, None]
        j += 1
    hidden = pooled @ get("combiner.0.weight").T + get("combiner.0.bias")[None, None]
    hidden = jax.nn.gelu(hidden, approximate=False)
    centred = hidden - hidden.mean(-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)
    return scaled * get("combiner.2.weight")[None, None] + get("combiner.2.bias")[None, None]
