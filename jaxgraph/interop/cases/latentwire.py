"""Golden cases of LatentWire's encoders and heads: values, gradients by parameters and inputs.

A case holds parts, each with its own parameters, inputs and `meta`. What is a size is read from the
parameters; what is an option, from `meta`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import latentwire_parts as parts
from jaxgraph.interop.cases.latentwire_wire import check_alignment, check_bytes, check_quantised
from jaxgraph.interop.rule import Rule
from jaxgraph.interop.rules import latentwire as rules
from jaxgraph.interop.torch import to_jax, to_torch
from jaxgraph.latentwire.adapter import calibrate
from jaxgraph.latentwire.alignment import alignment_mse
from jaxgraph.latentwire.layers import sinusoid

VALUE, GRADIENT, LOSS = "lm_value", "lm_gradient", "lm_loss"
NULL = 1e-6
"""Below this all of a tensor's recorded gradient is rounding: keys' biases, scales that cancel."""
GIVEN = ("in", "param", "cot", "meta", "table", "target_rms")
"""Second parts of names that are no results."""


def recognises(case: Case) -> bool:
    """Whether the case is made of parts that we know."""
    whole = {"run", "lm"}  # of training runs and language models, which have parts too
    names = set(_names(case))
    return not case.meta and not names & whole and any(_kind(name) for name in names)


def check(case: Case, checks: Checks) -> None:
    """Recomputes every part."""
    checks.expects = tuple(
        name for name in case.arrays
        if "/" in name and name.split("/")[1] not in GIVEN
        and not name.startswith(("aux/", "quant/"))
    )  # fmt: skip
    for name in _names(case):
        kind = _kind(name)
        if kind in PARTS:
            check_part(case, checks, name, PARTS[kind])
    if "pos/table" in case.arrays:
        checks.compare("pos/table", sinusoid(*case["pos/table"].shape), VALUE)
    check_bytes(case, checks)
    check_alignment(case, checks)
    check_quantised(case, checks)
    if "calibrate/out" in case.arrays:
        check_calibrate(case, checks)


class Part(NamedTuple):
    """How one kind of part is computed."""

    make: Callable[[dict[str, Any], Mapping[str, np.ndarray], Mapping[str, np.ndarray]], nn.Module]
    """The module of its meta, parameters and inputs."""
    rules: Callable[[dict[str, Any]], list[Rule]]
    inputs: tuple[str, ...]
    mask: str | None = None
    outputs: Callable[[Any, dict[str, Any]], dict[str, Any]] = lambda out, meta: {"out": out}
    """Results by name out of what the module gives."""


PARTS = {
    "byte_encoder": Part(parts.byte_encoder, lambda meta: rules.byte_encoder(), ("ids",)),
    "pooler": Part(parts.pooler, lambda meta: rules.pooler(), ("feats",)),
    "interlingua": Part(
        parts.interlingua, lambda meta: rules.interlingua(tuple(meta["model_keys"])), ("ids",),
        outputs=parts.wires,
    ),
    "stq": Part(parts.query_encoder, lambda meta: rules.query_encoder(), ("feats",), "mask"),
    "simple": Part(parts.simple_encoder, lambda meta: rules.simple_encoder(), ("emb",)),
    "adapter": Part(parts.adapter, lambda meta: rules.adapter(), ("z", "answer_lengths")),
    "deep_prefix": Part(
        parts.deep_prefix, lambda meta: rules.deep_prefix(), ("latents",),
        outputs=lambda out, meta: {"out_kv": jnp.stack([out.keys, out.values], axis=1)},
    ),
    "coprocessor": Part(
        parts.coprocessor, lambda meta: rules.coprocessor(), ("latents",), outputs=parts.layers,
    ),
    "gist": Part(parts.gist, lambda meta: rules.gist(), ("latents",)),
    "refiner": Part(parts.refiner, lambda meta: rules.refiner(), ("latents",)),
    "latent_adapter": Part(parts.latent_adapter, lambda meta: rules.latent_adapter(), ("h", "z")),
}  # fmt: skip


def check_part(case: Case, checks: Checks, name: str, part: Part) -> None:
    """Values, their product with the cotangent, and its gradients."""
    meta, tensors, inputs = case.meta_of(name), case.below(f"{name}/param/"), _inputs(case, name)
    module, table = part.make(meta, tensors, inputs), part.rules(meta)
    fed = {key: jnp.asarray(inputs[key]) for key in part.inputs if key in inputs}
    mask = jnp.asarray(inputs[part.mask] != 0) if part.mask else None
    params = load(module, table, tensors, fed, mask)

    def compare(mask, suffix, shown):
        """`shown` blots out rows of the outputs that mean nothing."""

        def scalar(params, fed):
            options = {} if mask is None else {"mask": mask}
            out = part.outputs(module.apply({"params": params}, *fed.values(), **options), meta)
            cots = {key: _cotangent(case, name, key) for key in out}
            known = {key: cot for key, cot in cots.items() if cot is not None}
            return sum(jnp.sum(out[key] * (cot * shown)) for key, cot in known.items()), out

        floats = {key: x for key, x in fed.items() if jnp.issubdtype(x.dtype, jnp.floating)}
        whole = lambda params, floats: scalar(params, fed | floats)  # noqa: E731
        (value, out), (grads, by_input) = jax.jit(
            jax.value_and_grad(whole, argnums=(0, 1), has_aux=True)
        )(params, floats)
        for key, ours in out.items():
            entry = f"{name}/{key}{suffix}"
            if entry in case.arrays:
                checks.compare(entry, np.where(np.asarray(shown) != 0, ours, case[entry]), VALUE)
        checks.compare(f"{name}/scalar{suffix}", value, GRADIENT)
        for key, grad in to_torch(grads, table).items():
            compare_gradient(checks, f"{name}/grad{suffix}/{key}", grad)
        for key, grad in by_input.items():
            compare_gradient(checks, f"{name}/grad_in{suffix}/{key}", grad)
        return out

    out = compare(mask, "", jnp.ones(()))
    if f"{name}/out_masked" in case.arrays:
        seen = jnp.asarray(inputs["mask"] != 0)
        compare(seen, "_masked", seen[..., None].astype(jnp.float32))
    if f"{name}/masked_mse" in case.arrays:
        valid = jnp.asarray(inputs["valid"] != 0)
        loss = alignment_mse(out["out"], jnp.asarray(inputs["target"]), valid)
        checks.compare(f"{name}/masked_mse", loss, LOSS)


def compare_gradient(checks: Checks, entry: str, ours: Any) -> None:
    """Relative to the tensor's largest, unless it is nothing but rounding."""
    if entry in checks.case.arrays:
        null = np.abs(checks.case[entry]).max(initial=0.0) < NULL
        checks.compare(entry, ours, "lm_null" if null else GRADIENT)


def load(module: nn.Module, table: list[Rule], tensors: Any, fed: Any, mask: Any = None) -> Any:
    """A module's parameters out of a state dict."""
    options = {} if mask is None else {"mask": mask}
    init = partial(module.init, **options)
    like = jax.eval_shape(init, jax.random.key(0), *fed.values())["params"]
    paths = [rule for rule in table if _used(rule, like)]
    return jax.tree.map(jnp.asarray, to_jax(tensors, like, paths))


def check_calibrate(case: Case, checks: Checks) -> None:
    """The case `adapter`, scaled to the strength of an embedding table."""
    meta, tensors, inputs = (
        case.meta_of("adapter"), case.below("adapter/param/"), _inputs(case, "adapter"),
    )  # fmt: skip
    module = parts.adapter(meta, tensors, inputs)
    fed = {key: jnp.asarray(inputs[key]) for key in ("z", "answer_lengths") if key in inputs}
    params = load(module, rules.adapter(), tensors, fed)
    target = parts.table_rms(case["calibrate/table"])
    cot = jnp.asarray(case["adapter/cot"])

    def scalar(params, z):
        raw = module.apply({"params": params}, *(fed | {"z": z}).values())
        out = calibrate(raw, target)
        return jnp.sum(out * cot), out

    (value, out), (grads, by_z) = jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)(
        params, fed["z"]
    )
    checks.compare("calibrate/out", out, VALUE)
    checks.compare("calibrate/scalar", value, GRADIENT)
    checks.compare("calibrate/grad_in/z", by_z, GRADIENT)
    checks.compare("calibrate/grad_scale", grads["scale"], "lm_null")


def _used(rule: Rule, like: Any) -> bool:
    return any(rule.place(path, leaf.shape) for path, leaf in flatten_dict(like, sep="/").items())


def _names(case: Case) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in case.arrays if "/" in name))


def _kind(name: str) -> str | None:
    """The kind of a part: its name up to what tells variants apart."""
    kinds = sorted([*PARTS, "pos", "bytes", "calibrate", "quant", "aux"], key=len, reverse=True)
    return next((kind for kind in kinds if name == kind or name.startswith(f"{kind}_")), None)


def _inputs(case: Case, name: str) -> dict[str, np.ndarray]:
    return case.below(f"{name}/in/")


def _cotangent(case: Case, name: str, output: str) -> Any:
    """That of an output; one entry serves parts with one output."""
    for entry in (f"{name}/cot/{output.removeprefix('out/')}", f"{name}/cot"):
        if entry in case.arrays and (output in ("out", "out_kv") or entry != f"{name}/cot"):
            return jnp.asarray(case[entry])
    return None
