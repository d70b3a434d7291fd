"""Golden entries of a language model with heads: deep prefix, coprocessor, latent adapters."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import latentwire_parts as parts
from jaxgraph.interop.cases.latentwire import compare_gradient, load
from jaxgraph.interop.cases.latentwire_lm_losses import k_token, shifted_twice
from jaxgraph.interop.cases.latentwire_lm_model import Golden, Wire
from jaxgraph.interop.rules import latentwire as rules
from jaxgraph.interop.torch import to_torch
from jaxgraph.latentwire.heads import layered

STEPS = 3
"""K of the recorded K-token losses."""


def check_heads(case: Case, checks: Checks, golden: Golden) -> None:
    """All that goes through a head of ours."""
    if "deep/param/residual.weight" in case.arrays:
        check_deep(case, checks, golden)
    if "cop/latents" in case.arrays:
        check_coprocessor(case, checks, golden)
    if "la/latents" in case.arrays:
        check_adapters(case, checks, golden)


def check_deep(case: Case, checks: Checks, golden: Golden) -> None:
    """The recorded prefix is what our generator makes of the soft prompt, and its gradient."""
    arch = golden.model.arch
    tensors, prompt = case.below("deep/param/"), jnp.asarray(golden.prefix)
    meta = case.meta_of("deep") | {"num_kv_heads": arch.kv_heads}
    module = parts.deep_prefix(meta, tensors, {})
    params = load(module, rules.deep_prefix(), tensors, {"prompt": prompt})

    def loss(prompt):
        past = module.apply({"params": params}, prompt)
        stored = jnp.stack([past.keys, past.values], axis=1)
        return _behind(golden, past), stored

    (value, stored), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(prompt)
    checks.compare("deep/kv", stored, "lm_value")
    checks.compare("deep/tf_loss", value, "lm_loss")
    checks.compare("deep/grad_prefix", gradient, "lm_gradient")


def check_coprocessor(case: Case, checks: Checks, golden: Golden) -> None:
    """Keys and values out of the wire, and the loss behind them."""
    arch = golden.model.arch
    tensors, z = case.below("cop/param/"), jnp.asarray(case["cop/latents"])
    meta = case.meta_of("cop") | {"head_dim": arch.head_width}
    module = parts.coprocessor(meta, tensors, {})
    params = load(module, rules.coprocessor(), tensors, {"z": z})

    def loss(z):
        return _behind(golden, layered(module.apply({"params": params}, z)))

    value, gradient = jax.jit(jax.value_and_grad(loss))(z)
    checks.compare("cop/tf_loss", value, "lm_loss")
    checks.compare("cop/grad_latents", gradient, "lm_gradient")


def _behind(golden: Golden, past: Any) -> Any:
    """The original's loss with these keys and values in place of the soft prompt."""
    answer = golden.targets[:, :-1]
    vectors, mask = golden.composed(Wire(golden.anchor), answer, golden.prefix[:, :0])
    logits = _logits(golden, vectors, mask, past=past)
    return shifted_twice(logits, golden.targets, len(golden.anchor), golden.pad_id)


def check_adapters(case: Case, checks: Checks, golden: Golden) -> None:
    """Layers whose outputs read the wire."""
    meta, z, prefix = case.meta_of("la"), jnp.asarray(case["la/latents"]), golden.prefix
    modules, table, params = {}, [], {}
    for layer in meta["layers"]:
        tensors = case.below(f"la/param/{layer}.")
        modules[layer] = parts.latent_adapter(meta, tensors, {})
        table += rules.latent_adapter(str(layer), str(layer))
        fed = {"h": jnp.asarray(prefix), "z": z}
        params[str(layer)] = load(modules[layer], rules.latent_adapter(), tensors, fed)
    at, y, pad = prefix.shape[1] + len(golden.anchor), golden.targets, golden.pad_id

    def loss(params, z, prefix):
        hooks = {layer: _hook(module, params[str(layer)], z) for layer, module in modules.items()}
        vectors, mask = golden.composed(Wire(golden.anchor), y[:, :-1], prefix)
        logits = _logits(golden, vectors, mask, after=hooks)
        return shifted_twice(logits, y, at, pad), logits

    (value, logits), (grads, by_z, by_prefix) = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    )(params, z, jnp.asarray(prefix))
    checks.compare("la/tf_loss", value, "lm_loss")
    checks.compare("la/grad_latents", by_z, "lm_gradient")
    checks.compare("la/grad_prefix", by_prefix, "lm_gradient")
    for key, grad in to_torch(grads, table).items():
        compare_gradient(checks, f"la/grad/{key}", grad)
    if "la/first_logits" in case.arrays:
        checks.compare("la/first_logits", logits[:, at - 1], "lm_value")
    checks.compare("la/kce_K3", k_token(logits, y[:, :STEPS], at, pad), "lm_loss")
    if "la/greedy_upstream" in case.arrays:
        hooks = {layer: _hook(module, params[str(layer)], z) for layer, module in modules.items()}
        steps = case["la/greedy_upstream"].shape[1]
        checks.compare("la/greedy_upstream", greedy(golden, hooks, steps), "exact")


def greedy(golden: Golden, hooks: Any, steps: int) -> np.ndarray:
    """Tokens behind the soft prompt, -1 from a row's stop on; hooks are there in the prefill alone,
    as in the original (D10)."""
    vectors, mask = golden.composed(Wire(golden.anchor))
    apply = partial(golden.model.apply, {"params": golden.params})

    @jax.jit
    def decode(vectors, mask):
        def draw(hidden):
            return apply(hidden, method="logits").argmax(-1).astype(jnp.int32)

        def advance(carry, i):
            token, cache = carry
            place = vectors.shape[1] + i
            hidden, cache = apply(
                token, cache, place, jnp.full_like(token, place), method="step"
            )
            return (draw(hidden), cache), token

        begun = apply(vectors, mask, after=hooks, keep_key_values=True)
        start = draw(begun.hidden[:, -1]), begun.key_values.extended(steps)
        return jax.lax.scan(advance, start, jnp.arange(steps))[1].T

    tokens = np.asarray(decode(vectors, jnp.asarray(mask)))
    stopped = np.cumsum(np.isin(tokens, golden.stop_ids), axis=1) > 0
    return np.where(stopped, -1, tokens)


def _hook(module: nn.Module, params: Any, z: Any) -> Any:
    return partial(module.apply, {"params": params}, z=z)


def _logits(golden: Golden, vectors: Any, mask: np.ndarray, **options: Any) -> Any:
    apply = partial(golden.model.apply, {"params": golden.params})
    return apply(apply(vectors, jnp.asarray(mask), **options).hidden, method="logits")

