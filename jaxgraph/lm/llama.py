"""The decoder: embedding, scanned layers, norm, head."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxgraph.lm.attention import attend, attend_cached
from jaxgraph.lm.cache import KeyValues
from jaxgraph.lm.config import Architecture, Compute
from jaxgraph.lm.layer import Weights, rms_norm, run_layer
from jaxgraph.lm.rotary import rotation

Hook = Callable[[Any], Any]
"""Changes the stream ``[b t d]`` behind a layer."""
INIT = nn.initializers.normal(0.02)


class Output(struct.PyTreeNode):
    """What a pass gives."""

    hidden: Any
    """[b t d] behind the last norm: what the head reads."""
    hidden_states: Any = None
    """[l+1 b t d]: what each layer reads, embeddings first, and in the last place `hidden`."""
    key_values: KeyValues | None = None
    """Past and tokens of this pass."""


class Llama(nn.Module):
    """Llama or Qwen2 (spec/latentwire.md, section 5).

    Weights of all layers are stacked along a first axis and scanned: one layer is compiled,
    whatever their number.
    """

    arch: Architecture
    compute: Compute = Compute()

    def setup(self):
        arch = self.arch
        self.embedding = self.param("embedding", INIT, (arch.vocab_size, arch.width))
        self.layers = self.param("layers", init_layers, arch)
        self.norm = self.param("norm", nn.initializers.ones, (arch.width,))
        if not arch.tied:
            self.head = self.param("head", INIT, (arch.width, arch.vocab_size))

    def embed(self, ids: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Vectors of ids, in the computing dtype; an id outside the vocabulary gives NaN."""
        return jnp.take(self.embedding, ids, axis=0, mode="fill").astype(self._dtype)

    def __call__(
        self,
        inputs: Int[Array, "b t"] | Float[Array, "b t d"],
        mask: Bool[Array, "b t"] | None = None,
        *,
        positions: Int[Array, "#b t"] | None = None,
        past: KeyValues | None = None,
        keep_hidden: bool = False,
        keep_key_values: bool = False,
        after: Mapping[int, Hook] | None = None,
    ) -> Output:
        """Runs tokens, ids or vectors, behind an optional past.

        Args:
          mask: False hides a token from all others; None shows all.
          positions: default past.length, past.length + 1, ..., whatever the mask says. Where only
            a row's padding differs, so do they by a constant, which rotation does not notice.
          after: at layer i, from 0, the stream goes through ``after[i]``.
        """
        x = self.embed(inputs) if jnp.issubdtype(inputs.dtype, jnp.integer) else inputs
        x = x.astype(self._dtype)
        batch, length, _ = x.shape
        before = past.length if past is not None else 0
        if mask is None:
            mask = jnp.ones((batch, length), bool)
        if positions is None:
            positions = before + jnp.arange(length)[None]
        seen = mask if past is None else jnp.concatenate([past.mask, mask], axis=1)
        causal = jnp.tril(jnp.ones((length, before + length), bool), before)
        visible = causal[None, None] & seen[:, None, None]
        turn = rotation(self.arch, positions)

        def body(x, part):
            weights, layer_past = part
            own, start = None, x

            def look(query, key, value):
                nonlocal own
                if layer_past is not None:
                    key, value = (
                        jnp.concatenate([jnp.swapaxes(old, 1, 2).astype(new.dtype), new], axis=1)
                        for old, new in zip(layer_past, (key, value), strict=True)
                    )
                own = tuple(jnp.swapaxes(new, 1, 2) for new in (key, value))
                return attend(query, key, value, visible)

            x = run_layer(self.arch, weights, x, turn, look)
            return x, (start if keep_hidden else None, own if keep_key_values else None)

        stacked = self.layers, None if past is None else (past.keys, past.values)
        out, (states, key_values) = scan_layers(
            self._remat(body), x, stacked, self.arch.layers, after or {}
        )
        hidden = rms_norm(out, self.norm, self.arch.norm_eps)
        if keep_hidden:
            states = jnp.concatenate([states, hidden[None]])
        if keep_key_values:
            key_values = KeyValues(*key_values, seen)
        return Output(hidden, states, key_values)

    def step(
        self,
        token: Int[Array, " b"],
        cache: KeyValues,
        slot: Int[Array, ""],
        positions: Int[Array, " b"],
        after: Mapping[int, Hook] | None = None,
    ) -> tuple[Float[Array, "b d"], KeyValues]:
        """Runs one token a row, whose keys and values go into this slot of the cache.

        It is changed in place where the caller does not use it again: in a loop, or donated.

        Args:
          after: as in a pass, with ``[b 1 d]``.
        """
        x = self.embed(token[:, None])
        turn = rotation(self.arch, positions[:, None])
        mask = cache.mask.at[:, slot].set(True)

        def body(carry, part):
            x, buffers = carry
            weights, i = part

            def look(query, *new):
                nonlocal buffers
                buffers = tuple(
                    jax.lax.dynamic_update_slice(
                        buffer,
                        jnp.swapaxes(one, 1, 2).astype(buffer.dtype)[None],
                        (i, 0, 0, slot, 0),
                    )
                    for buffer, one in zip(buffers, new, strict=True)
                )
                return attend_cached(query, *(buffer[i] for buffer in buffers), mask)

            x = run_layer(self.arch, weights, x, turn, look)
            return (x, buffers), None

        numbered = self.layers, jnp.arange(self.arch.layers)
        hooks = {
            layer: lambda carry, hook=hook: (hook(carry[0]), carry[1])
            for layer, hook in (after or {}).items()
        }
        (x, buffers), _ = scan_layers(
            body, (x, (cache.keys, cache.values)), numbered, self.arch.layers, hooks
        )
        return rms_norm(x, self.norm, self.arch.norm_eps)[:, 0], KeyValues(*buffers, mask)

    def logits(self, hidden: Float[Array, "*n d"]) -> Float[Array, "*n v"]:
        """float32 logits of what the last norm gave."""
        table, axis = (self.embedding, 1) if self.arch.tied else (self.head, 0)
        contracted = (((hidden.ndim - 1,), (axis,)), ((), ()))
        return jax.lax.dot_general(
            hidden, table.astype(hidden.dtype), contracted, preferred_element_type=jnp.float32
        )

    @property
    def _dtype(self) -> Any:
        return jnp.dtype(self.compute.dtype)

    def _remat(self, body: Callable) -> Callable:
        if self.compute.remat == "none":
            return body
        policies = jax.checkpoint_policies
        policy = {"layers": None, "dots": policies.dots_with_no_batch_dims_saveable}
        return jax.checkpoint(body, prevent_cse=False, policy=policy[self.compute.remat])


def init_layers(key: Any, arch: Architecture) -> Weights:
    """Random weights of all layers, normal with deviation 0.02."""
    d, queries, keys = arch.width, arch.heads * arch.head_width, arch.kv_heads * arch.head_width
    sizes = {
        "query": (d, queries), "key": (d, keys), "value": (d, keys), "out": (queries, d),
        "gate": (d, arch.ffn_width), "up": (d, arch.ffn_width), "down": (arch.ffn_width, d),
    }  # fmt: skip
    drawn = zip(jax.random.split(key, len(sizes)), sizes.items(), strict=True)
    weights = {
        name: {"kernel": INIT(each, (arch.layers, *size), jnp.float32)}
        for each, (name, size) in drawn
    }
    for name in ("query", "key", "value") if arch.qkv_bias else ():
        weights[name]["bias"] = jnp.zeros((arch.layers, sizes[name][1]))
    norms = ("attention_norm", "mlp_norm")
    return weights | {name: {"scale": jnp.ones((arch.layers, d))} for name in norms}


def scan_layers(
    body: Callable, x: Any, stacked: Any, count: int, after: Mapping[int, Hook]
) -> tuple[Any, Any]:
    """`lax.scan` over the layers, cut where something happens behind one."""
    cuts = sorted({i + 1 for i in after} | {count})
    parts = []
    for start, stop in zip([0, *cuts[:-1]], cuts, strict=True):
        part = stacked
        if (start, stop) != (0, count):
            part = jax.tree.map(lambda a: a[start:stop], stacked)  # noqa: B023
        x, out = jax.lax.scan(body, x, part)
        parts.append(out)
        if stop - 1 in after:
            x = after[stop - 1](x)
    if len(parts) == 1:
        return x, parts[0]
    return x, jax.tree.map(lambda *each: jnp.concatenate(each), *parts)
