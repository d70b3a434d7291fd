"""Models to compare with, trained on the same images: what could be had without this system."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

BATCH, RATE, MEMORY, SMALL = 128, 3e-3, 0.99, 1e-5


class Rival(NamedTuple):
    """A feed-forward net; without hidden layers it is a logistic regression."""

    name: str
    hidden: tuple[int, ...] = ()
    one_bit: bool = False
    """Weights, hidden states and pixels are plus or minus 1 (Hubara et al. 2016); only the means
    and scales of batch normalisation are floats."""

    def numbers(self, pixels: int, classes: int) -> str:
        """Its size in words."""
        widths = [pixels, *self.hidden, classes]
        edges = sum(a * b for a, b in zip(widths, widths[1:], strict=False))
        if self.one_bit:
            return f"{edges:,} bits"
        return f"{edges + sum(widths[1:]):,} floats"


def make_rivals(numbers: int, pixels: int, classes: int) -> list[Rival]:
    """Logistic regression, an MLP of about `numbers` parameters, and the 1-bit MLP of three times
    64 (brevitas' TFC_1W1A, spec/peers.md, 3b)."""
    hidden = max(1, round((numbers - classes) / (pixels + classes + 1)))
    return [
        Rival("logistic regression"),
        Rival(f"MLP of {hidden} hidden", (hidden,)),
        Rival("1-bit MLP 64-64-64", (64, 64, 64), one_bit=True),
    ]


def train_rival(
    rival: Rival,
    images: UInt8[np.ndarray, "n h w"],
    labels: Int[np.ndarray, " n"],
    classes: int,
    *,
    epochs: int,
    seed: int,
) -> Callable[[UInt8[np.ndarray, "b h w"]], np.ndarray]:
    """Trains by Adam under a cosine schedule; returns a function from images to classes."""
    x, y = jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels)
    widths = [x.shape[1], *rival.hidden, classes]
    keys = jax.random.split(jax.random.key(seed), len(widths))
    pairs = list(zip(widths, widths[1:], strict=False))
    params = [
        {"w": jax.random.uniform(k, pair, minval=-1, maxval=1) / np.sqrt(pair[0]),
         "b": jnp.zeros(pair[1])}
        for k, pair in zip(keys, pairs, strict=False)
    ]  # fmt: skip
    stats = [{"mean": jnp.zeros(b), "var": jnp.ones(b)} for _, b in pairs]
    batch = min(BATCH, len(y))
    steps = len(y) // batch
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, epochs * steps))

    def loss(params, stats, rows):
        logits, seen = _forward(rival, params, stats, x[rows], training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean(), seen

    def step(carry, rows):
        params, stats, moments = carry
        grads, seen = jax.grad(loss, has_aux=True)(params, stats, rows)
        updates, moments = optimizer.update(grads, moments)
        params = optax.apply_updates(params, updates)
        if rival.one_bit:
            params = jax.tree.map(lambda p: jnp.clip(p, -1, 1), params)
        stats = jax.tree.map(lambda a, b: MEMORY * a + (1 - MEMORY) * b, stats, seen)
        return (params, stats, moments), None

    epoch = jax.jit(lambda carry, rows: jax.lax.scan(step, carry, rows)[0])
    carry = (params, stats, optimizer.init(params))
    source = np.random.default_rng(seed)
    for _ in range(epochs):
        order = source.permutation(len(y))[: steps * batch].reshape(steps, batch)
        carry = epoch(carry, jnp.asarray(order))
    params, stats, _ = carry
    classify = jax.jit(
        lambda x: _forward(rival, params, stats, x, training=False)[0].argmax(1)
    )
    return lambda images: np.asarray(classify(jnp.asarray(images.reshape(len(images), -1))))


def _forward(
    rival: Rival, params: Any, stats: Any, pixels: UInt8[Array, "b d"], *, training: bool
) -> tuple[Float[Array, "b k"], Any]:
    x, seen = pixels.astype(jnp.float32) / 255, []
    if rival.one_bit:
        x = _sign(2 * x - 1)
    for i, (layer, known) in enumerate(zip(params, stats, strict=True)):
        if not rival.one_bit:
            x = x @ layer["w"] + layer["b"][None]
            x = jax.nn.relu(x) if i < len(params) - 1 else x
            seen.append(known)
            continue
        x = x @ _sign(layer["w"])
        now = {"mean": x.mean(0), "var": x.var(0)}
        seen.append(now)
        used = now if training else known
        x = (x - used["mean"][None]) / jnp.sqrt(used["var"][None] + SMALL) + layer["b"][None]
        x = _sign(x) if i < len(params) - 1 else x
    return x, jax.lax.stop_gradient(seen)


def _sign(x: Array) -> Array:
    """Plus or minus 1, with the derivative of a clip to [-1, 1]."""
    kept = jnp.clip(x, -1, 1)
    return kept + jax.lax.stop_gradient(jnp.where(x >= 0, 1.0, -1.0) - kept)
