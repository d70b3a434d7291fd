"""Experts on the tokens that they serve: the same numbers as all experts on all tokens.

An expert is a whole block, and every token may look back at every other: keys and values exist for
all tokens in each expert. What only serving experts need is query, output projection and FFN: 10 of
the 14 d² multiply-adds of a token in a block where a row has as many tokens as the width. Attention
scores are computed for all queries, those of unserved tokens being 0: the number of served tokens
of a row has no bound below its length.

(token, expert) pairs are sorted by expert, each expert's run padded to full tiles, so that shapes
are static and a tile multiplies with one matrix. `jax.lax.ragged_dot` would do it in one call, but
computes every expert for every pair on CPUs (docs/results.md); so it is reported of GPUs
(marin-community/marin#7012).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxgraph.moe.config import Model
from jaxgraph.moe.experts import Block, KeyValues
from jaxgraph.moe.router import normalise
from jaxgraph.nn.attention import attend
from jaxgraph.nn.dropout import dropout

TILE = 64
"""Pairs multiplied at once; measured: 32 to 128 differ by less than 15 %."""


class Plan(NamedTuple):
    """Where the work on (expert, token) lies; expert-major pairs `e n`, slots `s`, tiles `m`."""

    expert: Int[Array, " m"]
    """Of each tile."""
    pair: Int[Array, " s"]
    """Of each slot, as expert · n + token; e · n where the slot is empty."""
    slot: Int[Array, " e*n"]
    """Of each pair; s where the expert does not serve the token."""


def make_plan(served: Bool[Array, "e n"], top_k: int, tile: int) -> Plan:
    """Sorts pairs by expert, tokens in order; each token has `top_k` experts, none is dropped."""
    experts, tokens = served.shape
    # Each expert leaves at most tile - 1 slots empty, and serves each token once.
    tiles = min(
        (tokens * top_k + experts * (tile - 1)) // tile, experts * -(-tokens // tile)
    )
    ends = jnp.cumsum(-(-served.sum(1) // tile))
    starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]]) * tile
    rank = jnp.cumsum(served, 1) - 1
    slot = jnp.where(served, starts[:, None] + rank, tiles * tile).reshape(-1)
    pairs = jnp.arange(experts * tokens)
    pair = jnp.full(tiles * tile, len(pairs)).at[slot].set(pairs, mode="drop")
    # Tiles that nobody needs multiply zeros with the last expert.
    owner = jnp.searchsorted(ends, jnp.arange(tiles), side="right")
    return Plan(jnp.minimum(owner, experts - 1), pair, slot)


@jax.custom_vjp
def move(
    x: Float[Array, "i d"], there: Int[Array, " j"], back: Int[Array, " i"]
) -> Float[Array, "j d"]:
    """x[there], and zeros where `there` points beyond the end; `back` is its inverse.

    So the backward pass is a gather too, where a plain one would scatter row by row.
    """
    del back
    return jnp.take(x, there, axis=0, mode="fill", fill_value=0)


move.defvjp(
    lambda x, there, back: (move(x, there, back), (there, back)),
    lambda maps, g: (move(g, maps[1], maps[0]), None, None),
)


def grouped_matmul(
    x: Float[Array, "m r d"], kernel: Float[Array, "e d f"], expert: Int[Array, " m"]
) -> Float[Array, "m r f"]:
    """Each tile of r rows times its expert's matrix, tile after tile."""
    # Without remat the backward pass would be handed one copy of a matrix per tile.
    multiply = jax.checkpoint(lambda part: part[0] @ kernel[part[1]], prevent_cse=False)
    return jax.lax.map(multiply, (x, expert))


def should_group(config: Model, *, train: bool, decoding: bool) -> bool:
    """Which implementation runs; a single token is always decoded by all experts."""
    router = config.router
    if decoding or router.implementation == "dense":
        return False
    if router.implementation == "grouped":
        return True
    # Measured on a CPU (docs/results.md): the backward pass gains more than the forward pass.
    pays = (2 if train else 4) * router.top_k <= config.num_experts
    return pays and jax.default_backend() == "cpu" and router.can_group(config)


def run_grouped(
    block: Block,
    params: Any,
    x: Float[Array, "b t d"],
    mask: Bool[Array, "#b 1 #t s"],
    served: Float[Array, "b t e"],
    top_k: int,
    *,
    dropout_key: Key[Array, ""] | None,
    loop: str,
    keep_cache: bool = False,
    tile: int = TILE,
) -> tuple[Float[Array, "e b t d"], KeyValues | None]:
    """As `run_bank`, where it matters: an expert gives its input on tokens that it does not serve.

    Dropout (on with a `dropout_key`) zeroes the same shares in the same places, but draws other
    numbers: only without it the two are equal.

    Args:
      served: 1 where an expert serves a token, `top_k` times per token.
    """
    count, (rows, length, width) = served.shape[-1], x.shape
    dtype = block.dtype
    flat = jnp.moveaxis(served > 0, -1, 0).reshape(count, -1)
    plan = make_plan(flat, top_k, tile)
    keys = [None] * (count + 2)
    if dropout_key is not None:
        keys = jax.random.split(dropout_key, count + 2)

    every = lambda p: p[:, None, None]  # noqa: E731
    of_tile = lambda p: p[plan.expert][:, None]  # noqa: E731
    to_slots = lambda a: move(a.reshape(-1, width), plan.pair, plan.slot)  # noqa: E731
    to_pairs = lambda a: move(a.reshape(-1, width), plan.slot, plan.pair)  # noqa: E731

    def linear(x, kernel, bias):
        x = x.reshape(-1, tile, kernel.shape[1])
        product = grouped_matmul(x, kernel.astype(dtype), plan.expert)
        return product + of_tile(bias.astype(dtype))

    def mixed_by(part):
        kernel, bias, normed, query, key = part
        found = jnp.einsum("btd,dchk->cbthk", normed, kernel) + bias[:, None, None]
        kept = KeyValues(found[0], found[1])
        mixed = attend(query, *kept, mask, rate=block.dropout, dropout_key=key)
        return mixed, kept if keep_cache else None

    norm1, qkv, out = params["norm1"], params["attention"]["qkv"], params["attention"]["out"]
    normed = (normalise(x)[None] * every(norm1["scale"]) + every(norm1["bias"])).astype(dtype)
    query = linear(
        to_slots(normed), qkv["kernel"][:, :, 0].reshape(count, width, width),
        qkv["bias"][:, 0].reshape(count, width),
    )
    query = to_pairs(query).reshape(count, rows, length, block.num_heads, -1)
    if loop == "auto":
        loop = "map" if jax.default_backend() == "cpu" else "vmap"
    each = jax.vmap(mixed_by) if loop == "vmap" else partial(jax.lax.map, mixed_by)
    mixed, kept = each((
        qkv["kernel"][:, :, 1:].astype(dtype), qkv["bias"][:, 1:].astype(dtype), normed, query,
        None if dropout_key is None else keys[:count],
    ))

    u = to_slots(jnp.broadcast_to(x, mixed.shape[:3] + (width,))).reshape(-1, tile, width)
    u = u + linear(to_slots(mixed), out["kernel"].reshape(count, width, width), out["bias"])
    normed = normalise(u) * of_tile(params["norm2"]["scale"]) + of_tile(params["norm2"]["bias"])
    hidden = linear(normed.astype(dtype), params["up"]["kernel"], params["up"]["bias"])
    hidden = dropout(jax.nn.gelu(hidden, approximate=False), block.dropout, keys[count])
    down = linear(hidden, params["down"]["kernel"], params["down"]["bias"])
    outputs = to_pairs(u + dropout(down, block.dropout, keys[count + 1])).reshape(count, *x.shape)
    served = flat.reshape(count, rows, length, 1)
    return jnp.where(served, outputs.astype(x.dtype), x[None]), kept
