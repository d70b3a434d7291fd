"""The seed's rotator: one presentation of the token embeddings per primary expert (spec 4.1).

Kept as it was, defects included (docs/parity.md, D8, D9); rotations of ours are in `rotation.py`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgraph.moe.config import Views
from jaxgraph.moe.rotation import cayley

RIDGE = 1e-6


class Rotator(nn.Module):
    """z_e = (x R_eᵀ) ⊙ scale_e + shift_e (+ basis · coefficients_e); `givens`: (x R_eᵀ) P_eᵀ."""

    config: Views
    count: int
    width: int

    def setup(self):
        config, small = self.config, nn.initializers.normal(0.1)
        per_feature = (self.count, self.width)
        self.theta = self.param("theta", small, (self.count, config.dimensions))
        if config.kind == "givens":
            self.projector = self.param("projector", _near_identity, (*per_feature, self.width))
            return
        self.scale = self.param("scale", nn.initializers.ones, per_feature)
        self.shift = self.param("shift", nn.initializers.zeros, per_feature)
        if config.shared_basis:
            rank = min(16, self.width // 4)
            self.basis = self.param("basis", small, (self.width, rank))
            self.coefficients = self.param("coefficients", small, (self.count, rank))

    def __call__(
        self, x: Float[Array, "b t d"], expert: Int[Array, ""]
    ) -> Float[Array, "b t d"]:
        """The presentation of one expert."""
        kind, width = self.config.kind, self.width
        if kind == "householder":
            turned = householder(x, self.theta[expert])
        elif kind == "cayley":
            matrix = cayley(self.angles()[expert], width, RIDGE)
            turned = jnp.einsum("btd,cd->btc", x, matrix.astype(x.dtype))
        else:
            matrix = self.projector[expert] @ givens(self.angles()[expert], width)
            return jnp.einsum("btd,cd->btc", x, matrix.astype(x.dtype))
        shift = self.shift[expert]
        if self.config.shared_basis:
            shift = shift + self.basis @ self.coefficients[expert]
        scale = self.scale[expert].astype(x.dtype)
        return turned * scale[None, None] + shift.astype(x.dtype)[None, None]

    def angles(self) -> Float[Array, "p r"]:
        """tanh(θ) · max_angle: what losses penalise, whatever the kind."""
        return self.config.max_angle * jnp.tanh(self.theta)

    def used_angles(self) -> Float[Array, "p r"]:
        """The angles in the matrices: with `householder` not those that are penalised (D8)."""
        if self.config.kind == "householder":
            return 0.1 * safe_norm(self.theta)[:, None]
        return self.angles()


def safe_norm(x: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Euclidean norm whose gradient at 0 is 0, as PyTorch's."""
    return root(jnp.sum(jnp.square(x), -1))


def root(square: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Square root whose gradient at 0 is 0."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def householder(
    x: Float[Array, "b t d"], theta: Float[Array, " r"]
) -> Float[Array, "b t d"]:
    """x - 2 sin φ (x·v) v with φ = 0.1·|θ| and v along θ, which is cut or padded to the width.

    φ takes all of θ, also where v does not. No reflection and no rotation: it scales v by
    1 - 2 sin φ.
    """
    width = x.shape[-1]
    start = theta[:width]
    start = jnp.pad(start, (0, width - len(start)))
    v = start / jnp.maximum(safe_norm(start), 1e-12)
    along = jnp.einsum("btd,d->bt", x, v.astype(x.dtype), preferred_element_type=jnp.float32)
    pushed = 2 * jnp.sin(0.1 * safe_norm(theta)) * along[..., None] * v[None, None]
    return x - pushed.astype(x.dtype)


def givens(angles: Float[Array, " r"], size: int) -> Float[Array, "{size} {size}"]:
    """G(0, 1, a₁) G(0, 2, a₂) ...: pairs row by row; further angles are ignored (spec 4.1)."""
    rows, columns = np.triu_indices(size, 1)
    used = min(len(rows), len(angles))

    def turn(matrix, part):
        i, j, angle = part
        left, right = matrix[:, i], matrix[:, j]
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        matrix = matrix.at[:, i].set(cosine * left + sine * right)
        return matrix.at[:, j].set(cosine * right - sine * left), None

    return jax.lax.scan(
        turn, jnp.eye(size), (jnp.asarray(rows[:used]), jnp.asarray(columns[:used]), angles[:used])
    )[0]


def _near_identity(key: Any, shape: tuple[int, ...]) -> Float[Array, "p d d"]:
    """I + 0.1 · a random orthogonal matrix."""
    return jnp.eye(shape[-1])[None] + 0.1 * nn.initializers.orthogonal()(key, shape)
