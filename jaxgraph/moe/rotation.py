"""Turns in front of experts: true rotations in a few dimensions of a learned basis.

R = I + Q (G - I) Qᵀ with orthonormal Q [d, 2k] and a rotation G of 2k dimensions (spec/moe.md, 11).
A token costs 8kd multiply-adds, and no d x d matrix is ever made. The seed's own "rotations" are in
`rotator.py`.
"""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from jaxgraph.errors import UserError
from jaxgraph.moe.config import Model, Rotation


class Turn(struct.PyTreeNode):
    """One expert's rotation; `make_turns` gives a stack of them to map over."""

    basis: Any
    """[d, 2k]: orthonormal columns; column j and column k + j span plane j."""
    bias: Any
    """[r]: free angles; r is k with kind `planes`, k (2k - 1) with `cayley`."""
    kernel: Any
    """[d, r]: how angles follow from the token; None where they are constant."""
    config: Rotation = struct.field(pytree_node=False)

    def angles(self, x: Float[Array, "b t d"]) -> Float[Array, "#b #t r"]:
        """tanh(x W + bias) · max_angle; one row for all tokens where angles are constant."""
        free = self.bias[None, None]
        if self.kernel is not None:
            free = free + jnp.einsum(
                "btd,dr->btr", x, self.kernel.astype(x.dtype), preferred_element_type=jnp.float32
            )
        return self.config.max_angle * jnp.tanh(free)

    def rotate(
        self, x: Float[Array, "b t d"], angles: Float[Array, "#b #t r"]
    ) -> Float[Array, "b t d"]:
        """R x; the negative angles turn back."""
        basis = self.basis.astype(x.dtype)
        inside = jnp.einsum("btd,dj->btj", x, basis, preferred_element_type=jnp.float32)
        moved = MOVES[self.config.kind](inside, angles)
        return x + jnp.einsum("btj,dj->btd", moved.astype(x.dtype), basis)

    def before(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """What the expert reads."""
        return self.rotate(x, self.angles(x)) if self.config.placement == "block" else x

    def within(self, normed: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """What the expert's weights read behind a norm."""
        if self.config.placement == "block":
            return normed
        return self.rotate(normed, self.angles(normed))

    def after(
        self, out: Float[Array, "b t d"], x: Float[Array, "b t d"]
    ) -> Float[Array, "b t d"]:
        """The expert's output in the frame of its input x, unless that is not wanted."""
        if self.config.placement == "block" and self.config.undo:
            return self.rotate(out, -self.angles(x))
        return out

    def origin(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """What `after` would give for an expert that adds nothing."""
        return x if self.config.undo else self.before(x)


class Turns(nn.Module):
    """Free parameters of the turns of a layer's nodes, stacked."""

    config: Rotation
    count: int
    width: int

    @nn.compact
    def __call__(self) -> dict[str, Float[Array, "n ..."]]:
        planes = self.config.planes
        angles = planes if self.config.kind == "planes" else planes * (2 * planes - 1)
        params = {
            "reflectors": self.param(
                "reflectors", nn.initializers.normal(1.0), (self.count, 2 * planes, self.width)
            ),
            # As large as the seed's: experts differ from the start.
            "bias": self.param("bias", nn.initializers.normal(0.1), (self.count, angles)),
        }
        if self.config.angles == "token":
            params["kernel"] = self.param(
                "kernel", nn.initializers.zeros, (self.count, self.width, angles)
            )
        return params


def make_turns(config: Rotation, params: Any) -> Turn:
    """The rotations, stacked as their free parameters are."""
    basis = jax.vmap(orthonormal_basis)(params["reflectors"])
    return Turn(basis, params["bias"], params.get("kernel"), config)


def orthonormal_basis(reflectors: Float[Array, "j d"]) -> Float[Array, "d j"]:
    """First j columns of the product of j Householder reflectors; a zero one changes nothing."""

    def reflect(basis, v):
        square = v @ v
        # A quotient of squares, since a norm has no gradient at 0.
        along = (v @ basis) / jnp.where(square > 0, square, 1)
        return basis - 2 * v[:, None] * along[None, :], None

    count, width = reflectors.shape
    return jax.lax.scan(reflect, jnp.eye(width, count), reflectors, reverse=True)[0]


def _move_planes(
    inside: Float[Array, "b t j"], angles: Float[Array, "#b #t k"]
) -> Float[Array, "b t j"]:
    """(G - I) u for independent turns of (u_j, u_{k+j})."""
    first, second = jnp.split(inside, 2, axis=-1)
    sine, less = jnp.sin(angles), -2 * jnp.square(jnp.sin(angles / 2))  # less = cos - 1
    return jnp.concatenate([less * first - sine * second, sine * first + less * second], axis=-1)


def _move_cayley(
    inside: Float[Array, "b t j"], angles: Float[Array, "1 1 r"]
) -> Float[Array, "b t j"]:
    """(G - I) u for G from a skew matrix."""
    matrix = cayley(angles[0, 0], inside.shape[-1])
    return jnp.einsum("bti,ji->btj", inside, matrix) - inside


MOVES = {"planes": _move_planes, "cayley": _move_cayley}


def cayley(
    angles: Float[Array, " r"], size: int, ridge: float = 0.0
) -> Float[Array, "{size} {size}"]:
    """(I + A)⁻¹ (I - A), a rotation; A skew, its upper triangle filled row by row (spec 4.1).

    Angles beyond the triangle are ignored, entries beyond the angles are 0. The seed adds a `ridge`
    to the diagonal of I + A, which needs none: it is never singular.
    """
    rows, columns = np.triu_indices(size, 1)
    used = min(len(rows), len(angles))
    upper = jnp.zeros((size, size)).at[rows[:used], columns[:used]].set(angles[:used])
    skew, eye = upper - upper.T, jnp.eye(size)
    return jnp.linalg.solve((1 + ridge) * eye + skew, eye - skew)


def fold_rotations(params: Any, config: Model) -> tuple[Any, Model]:
    """Parameters and config of a model without turns that computes the same.

    Only constant turns behind the norms can be folded: they become part of `qkv` and `up`. In front
    of a block they cannot, because its norms do not commute with rotations.

    Raises:
      UserError: the turns are of another sort.
    """
    rotation = config.rotation
    if not config.routed or (rotation.placement, rotation.angles) != ("norms", "constant"):
        raise UserError(
            f"train_mode {config.train_mode!r}, rotation.placement {rotation.placement!r}, "
            f"rotation.angles {rotation.angles!r} cannot be folded; allowed: 'geometric_routed', "
            "'norms', 'constant'"
        )

    def fold(turn, kernel):
        flat = kernel.reshape(kernel.shape[0], -1).T[None]
        return turn.rotate(flat, -turn.angles(flat))[0].T.reshape(kernel.shape)

    def fold_bank(turns, bank):
        qkv, up = (jax.vmap(fold)(turns, part["kernel"]) for part in (
            bank["attention"]["qkv"], bank["up"]
        ))
        attention = bank["attention"] | {"qkv": bank["attention"]["qkv"] | {"kernel": qkv}}
        return bank | {"attention": attention, "up": bank["up"] | {"kernel": up}}

    folded = dict(params)
    for i in range(config.num_layers):
        layer = dict(params[f"layer_{i}"])
        turns = make_turns(rotation, layer.pop("rotation"))
        for name, nodes in (
            ("experts", slice(config.num_experts)), ("ghosts", slice(config.num_experts, None))
        ):
            if name in layer:
                own = jax.tree.map(lambda p, nodes=nodes: p[nodes], turns)
                layer[name] = fold_bank(own, layer[name])
        folded[f"layer_{i}"] = layer
    return folded, replace(config, train_mode="standard")
