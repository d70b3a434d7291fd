"""A small perceptron as probe: finds what is there but not linear."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Float32, Int, Int32, Int64

OPTIMIZER = optax.adam(1e-3)
BATCH = 128


class Mlp(struct.PyTreeNode):
    """Weights of one hidden layer with GELU."""

    hidden: Any
    """Kernel [d, h] and bias [h]."""
    out: Any
    """Kernel [h, k] and bias [k]."""

    def logits(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        h = jax.nn.gelu(x @ self.hidden[0] + self.hidden[1][None])
        return h @ self.out[0] + self.out[1][None]

    def predict(self, x: Float32[np.ndarray, "n d"]) -> Int64[np.ndarray, " n"]:
        """The most likely class, from 0."""
        return np.asarray(self.logits(jnp.asarray(x))).argmax(1)

    def loss(self, x: Float[Array, "n d"], y: Int[Array, " n"]) -> Float[Array, ""]:
        """Mean nats."""
        return optax.softmax_cross_entropy_with_integer_labels(self.logits(x), y).mean()


def fit_mlp(
    train: tuple[Float32[np.ndarray, "n d"], Int32[np.ndarray, " n"]],
    validation: tuple[Float32[np.ndarray, "m d"], Int32[np.ndarray, " m"]],
    *,
    classes: int,
    hidden: int = 64,
    epochs: int = 30,
    seed: int = 0,
) -> tuple[Mlp, int]:
    """Adam (1e-3) on mean cross-entropy; keeps the epoch with the lowest validation loss.

    Args:
      train: features, best of mean 0 and variance 1, and classes from 0.
      validation: the same, held out.
      classes: k.
      hidden: h.
      epochs: passes through the training rows.
      seed: of weights and order.

    Returns:
      The model and its epoch, counted from 1.
    """
    x, y = map(jnp.asarray, train)
    held = tuple(map(jnp.asarray, validation))
    init, key = jax.random.split(jax.random.key(seed))
    model = _init(init, x.shape[1], hidden, classes)
    opt_state = OPTIMIZER.init(model)
    best, best_loss, best_epoch = model, np.inf, 0
    for epoch in range(1, epochs + 1):
        model, opt_state, loss = _epoch(
            model, opt_state, jax.random.fold_in(key, epoch), x, y, held
        )
        if float(loss) < best_loss:
            best, best_loss, best_epoch = model, float(loss), epoch
    return best, best_epoch


def _init(key: Any, width: int, hidden: int, classes: int) -> Mlp:
    kernel = jax.nn.initializers.lecun_normal()
    a, b = jax.random.split(key)
    return Mlp(
        (kernel(a, (width, hidden)), jnp.zeros(hidden)),
        (kernel(b, (hidden, classes)), jnp.zeros(classes)),
    )


@partial(jax.jit, donate_argnums=1)
def _epoch(
    model: Any, opt_state: Any, key: Any, x: Any, y: Any, held: Any
) -> tuple[Any, Any, Float[Array, ""]]:
    """One pass in a new order, the rest of a batch left out, and the loss on held-out rows."""
    batch = min(BATCH, len(y))
    order = jax.random.permutation(key, len(y))
    batches = order[: len(y) // batch * batch].reshape(-1, batch)

    def step(carry: Any, rows: Any) -> Any:
        model, opt_state = carry
        slope = jax.grad(Mlp.loss)(model, x[rows], y[rows])
        updates, opt_state = OPTIMIZER.update(slope, opt_state, model)
        return (optax.apply_updates(model, updates), opt_state), None

    (model, opt_state), _ = jax.lax.scan(step, (model, opt_state), batches)
    return model, opt_state, model.loss(*held)
