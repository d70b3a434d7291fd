"""Losses: the error of the read-out, and with credit `local` one of each layer besides."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxgraph.neurograph.config.learning import Loss
from jaxgraph.neurograph.learning.network import Network, Pass


def cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, " b"], smoothing: Any
) -> Float[Array, " b"]:
    """Cross entropy with `smoothing` shared out among the wrong classes, as the original's
    (spec/neurograph.md, section 11)."""
    logs = jax.nn.log_softmax(logits)
    right = jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]
    wrong = (logs.sum(1) - right) / (logits.shape[1] - 1)
    return -(1 - smoothing) * right - smoothing * wrong


def class_codes(network: Network, layer: int) -> Float[Array, "d k"]:
    """Fixed code of each class for the signals of a hidden layer: phase 0 or half a turn, that is
    plus or minus one, drawn once; the original's codes cannot be told apart (defect D18)."""
    nodes = network.layers[layer].nodes * network.parts
    raw = np.random.Philox(key=np.array([2, layer], np.uint64)).random_raw(nodes * network.classes)
    return jnp.asarray(1.0 - 2.0 * (raw >> 63).reshape(nodes, network.classes), jnp.float32)


def local_logits(network: Network, found: Pass, layer: int) -> Float[Array, "b k"]:
    """What the signals of a hidden layer say about the classes by their codes."""
    state = found.states[layer]
    scores = jnp.einsum("bd,dk->bk", state, class_codes(network, layer))
    return scores / (2.0**network.cell.state_bits * np.sqrt(state.shape[1]))


def logits_of(network: Network, scores: Float[Array, "b k"]) -> Float[Array, "b k"]:
    """Scores in natural units, divided by a power of two near the root of the fan-in."""
    digits = network.shift(network.layers[-1]) + network.cell.state_bits
    return scores / 2.0**digits


def make_loss(network: Network, config: Loss):
    """``loss(offsets, params, images, labels, temperature, smoothing) -> (losses [b], pass)``."""
    local = config.credit == "local"

    def loss(
        offsets: Any,
        params: Any,
        images: UInt8[Array, "b h w"],
        labels: Int[Array, " b"],
        temperature: Any,
        smoothing: Any,
    ) -> tuple[Float[Array, " b"], Pass]:
        found = network.run(network.values(params, offsets), images, detach=local)
        logits = [logits_of(network, found.scores)]
        if local:
            logits += [local_logits(network, found, i) for i in range(len(found.states))]
        return sum(cross_entropy(x / temperature, labels, smoothing) for x in logits), found

    return loss
