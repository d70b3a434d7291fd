"""Experts: whole transformer blocks, stacked on one axis and run side by side or one by one."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxgraph.moe.config import Model
from jaxgraph.moe.rotation import Turn
from jaxgraph.nn import across
from jaxgraph.nn.attention import attend
from jaxgraph.nn.dropout import dropout

NORMAL = nn.initializers.normal(0.02)


class KeyValues(NamedTuple):
    """Keys and values of a block, kept for decoding."""

    key: Float[Array, "... b s h k"]
    value: Float[Array, "... b s h k"]


def norm(name: str, dtype: Any) -> nn.LayerNorm:
    """LayerNorm as PyTorch computes it; statistics in float32."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)


class Attention(nn.Module):
    """Multi-head self-attention with one packed projection, as torch.nn.MultiheadAttention."""

    num_heads: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "#b 1 #t s"],
        *,
        train: bool,
        cache: KeyValues | None = None,
        position: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "b t d"], KeyValues]:
        *tokens, width = x.shape
        heads = (3, self.num_heads, width // self.num_heads)
        qkv = nn.DenseGeneral(
            heads, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="qkv"
        )(_flat(x))
        query, key, value = jnp.moveaxis(qkv.reshape(*tokens, *heads), 2, 0)
        if cache is not None:
            key = jax.lax.dynamic_update_slice_in_dim(cache.key, key, position, axis=1)
            value = jax.lax.dynamic_update_slice_in_dim(cache.value, value, position, axis=1)
        mixed = attend(
            query, key, value, mask, rate=self.dropout,
            dropout_key=self.make_rng("dropout") if train and self.dropout else None,
        )
        out = nn.DenseGeneral(
            width, axis=(-2, -1), dtype=self.dtype, kernel_init=NORMAL, name="out"
        )(mixed.reshape(-1, *heads[1:]))
        return out.reshape(x.shape), KeyValues(key, value)


class Block(nn.Module):
    """u = x + Attn(LN1(x));  out = u + drop(W2 drop(gelu(W1 LN2(u)))): one expert (spec 3.2)."""

    num_heads: int
    hidden: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "#b 1 #t s"],
        *,
        train: bool,
        cache: KeyValues | None = None,
        position: Int[Array, ""] | None = None,
        turn: Turn | None = None,
    ) -> tuple[Float[Array, "b t d"], KeyValues]:
        within = (lambda normed: normed) if turn is None else turn.within
        drop = lambda x: dropout(  # noqa: E731
            x, self.dropout, self.make_rng("dropout") if train and self.dropout else None
        )
        attention = Attention(self.num_heads, self.dropout, self.dtype, name="attention")
        mixed, kept = attention(
            within(norm("norm1", self.dtype)(x)), mask, train=train, cache=cache, position=position
        )
        x = x + mixed
        hidden = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=NORMAL, name="up")(
            _flat(within(norm("norm2", self.dtype)(x)))
        )
        hidden = drop(nn.gelu(hidden, approximate=False))
        out = nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=NORMAL, name="down")(hidden)
        return x + drop(out).reshape(x.shape), kept


def _flat(x: Float[Array, "b t d"]) -> Float[Array, "n d"]:
    """One axis of tokens: gradients of weights that contract two are slow on CPUs."""
    return x.reshape(-1, x.shape[-1])


def make_block(config: Model) -> Block:
    """The block that every expert and ghost of a layer is an instance of."""
    return Block(
        num_heads=config.num_heads,
        hidden=config.ffn_factor * config.width,
        dropout=config.dropout,
        dtype=jnp.dtype(config.dtype),
        parent=None,
    )


def init_bank(key: Key[Array, ""], block: Block, count: int, width: int) -> Any:
    """Parameters of `count` blocks, each leaf with a leading expert axis."""
    x, mask = jnp.zeros((1, 1, width)), jnp.ones((1, 1, 1, 1), bool)
    return jax.vmap(lambda k: block.init(k, x, mask, train=False)["params"])(
        jax.random.split(key, count)
    )


def run_bank(
    block: Block,
    params: Any,
    x: Float[Array, "b t d"],
    mask: Bool[Array, "#b 1 #t s"],
    *,
    train: bool,
    dropout_key: Key[Array, ""] | None,
    loop: str,
    levels: Float[Array, " e"] | None = None,
    cache: KeyValues | None = None,
    position: Int[Array, ""] | None = None,
    keep_cache: bool = False,
    turns: Turn | None = None,
) -> tuple[Float[Array, "e b t d"], KeyValues | None]:
    """Runs every block of a stacked bank on the same input.

    With `levels`, a block whose level is 0 is not computed and gives zeros: the experts then run
    one after the other, because a branch inside `vmap` would compute both sides.

    Args:
      loop: `vmap`, `map` or `auto` (`map` on CPUs, where an activation between batched matmuls
        takes a slow path; `vmap` elsewhere). The numbers are the same.
      cache: keys and values so far, `[e, b, s, h, k]`, when decoding one token at `position`.
      keep_cache: also return this call's keys and values.
      turns: each block's rotation of what it reads, stacked.

    Returns:
      Outputs, residual included, `[e, b, t, d]`; and the keys and values or None.
    """
    count = jax.tree.leaves(params)[0].shape[0]
    keys = None if dropout_key is None else jax.random.split(dropout_key, count)

    def run(params, key, cache, turn):
        rngs = None if key is None else {"dropout": key}
        out, kept = block.apply(
            {"params": params}, x if turn is None else turn.before(x), mask, train=train,
            cache=cache, position=position, turn=turn, rngs=rngs,
        )
        out = out if turn is None else turn.after(out, x)
        return (out.astype(x.dtype), kept) if keep_cache else (out.astype(x.dtype), None)

    def run_if_awake(level, *args):
        shapes = jax.eval_shape(run, *args)
        asleep = lambda *_: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)  # noqa: E731
        return jax.lax.cond(level > 0, run, asleep, *args)

    if levels is not None:
        return jax.lax.map(
            lambda part: run_if_awake(*part), (levels, params, keys, cache, turns)
        )
    if loop == "auto":
        loop = "map" if jax.default_backend() == "cpu" else "vmap"
    if loop == "vmap":
        x = across.to_experts(x)
        outputs, kept = jax.vmap(run)(params, keys, cache, turns)
        return across.from_experts(outputs), kept
    return jax.lax.map(lambda part: run(*part), (params, keys, cache, turns))
