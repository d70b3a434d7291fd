"""Losses of LatentWire on a model's logits, as the original records them, and their gradients by
the soft prompt (spec/latentwire.md, sections 5.2 and 6)."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases.latentwire_lm_model import Golden, Pass, Wire, run
from jaxgraph.latentwire.losses import state_distance
from jaxgraph.nn.losses import cross_entropy

TEXT_CHUNK = 4
"""Rows of a chunk of the original's text loss."""


class Loss(NamedTuple):
    """A recorded loss, as a function of the pass over [prefix; BOS; anchor; answer]."""

    entry: str
    gradient: str
    of: Callable[[Pass], Any]


class Group(NamedTuple):
    """Losses of one pass."""

    wire: Wire
    answer: np.ndarray
    losses: list[Loss]


def check_losses(case: Case, checks: Checks, golden: Golden) -> None:
    """All losses but those through heads, and the gradients of those of soft prompts."""
    for group in groups(case, golden):
        values, gradients = evaluate(golden, group)
        for loss, value, gradient in zip(group.losses, values, gradients, strict=True):
            checks.compare(loss.entry, value, "lm_loss")
            checks.compare(loss.gradient, gradient, "lm_gradient")
    if "text/scaffold" in case.arrays:
        check_text(case, checks, golden)
    if "deep/kv" in case.arrays:
        check_deep(checks, golden)


def evaluate(golden: Golden, group: Group) -> tuple[Any, Any]:
    """Values, and gradients by the prefix: one pass forward, one batch of passes back."""

    def values(prefix):
        vectors, mask = golden.composed(group.wire, group.answer[:, :-1], prefix)
        out = run(golden.model, golden.params, vectors, jnp.asarray(mask), None)
        found = jnp.stack([loss.of(out) for loss in group.losses])
        return found, found

    gradients, found = jax.jit(jax.jacrev(values, has_aux=True))(jnp.asarray(golden.prefix))
    return jax.device_get((found, gradients))


def groups(case: Case, golden: Golden) -> Iterator[Group]:
    """What a case records, by what is fed."""
    y, pad = golden.targets, golden.pad_id
    by_wire: dict[Wire, list[Loss]] = {}
    start = golden.prefix.shape[1]

    def first(wire):
        return start + len(golden.between(wire))

    for part, answer, anchor in (
        ("tf", y, golden.anchor), ("tf_noanchor", case.arrays.get("common/targets_full"), ()),
    ):  # fmt: skip
        if f"{part}/loss" not in case.arrays:
            continue
        wire = Wire(anchor)
        at = first(wire)
        losses = [
            Loss(f"{part}/loss", f"{part}/grad_prefix",
                 lambda out, at=at, y=answer: shifted_twice(out.logits, y, at, pad)),
            Loss(f"{part}/loss_aligned", f"{part}/grad_prefix_aligned",
                 lambda out, at=at, y=answer: aligned(out.logits, y, at, pad)),
        ]  # fmt: skip
        if part == "tf":
            by_wire.setdefault(wire, []).extend(losses)
        else:
            yield Group(wire, answer, losses)
    for part in [*golden.parts("kce"), *golden.parts("kd"), *golden.parts("state")]:
        meta = case.meta_of(part)
        anchor = meta.get("anchor_ids", golden.anchor)
        wire = Wire(tuple(anchor or ()), meta.get("append_bos", False))
        loss = Loss(f"{part}/loss", f"{part}/grad_prefix", _loss(case, golden, part, first(wire)))
        by_wire.setdefault(wire, []).append(loss)
    for wire, losses in by_wire.items():
        yield Group(wire, y, losses)


def _loss(case: Case, golden: Golden, part: str, at: int) -> Callable[[Pass], Any]:
    meta, y, pad = case.meta_of(part), golden.targets, golden.pad_id
    steps = min(meta["K"], y.shape[1])
    if part.startswith("kce_"):
        return lambda out: k_token(out.logits, y[:, :steps], at, pad)
    scaffold = case[meta.get("scaffold", "text/scaffold")]
    ids = np.concatenate([scaffold, y[:, :steps]], axis=1)
    mask = np.concatenate([np.ones(scaffold.shape, bool), y[:, :steps] != pad], axis=1)
    teacher, end = golden.run(ids, mask), scaffold.shape[1]
    if part.startswith("state_"):
        return lambda out: states_apart(out, teacher, meta["layers"], steps, at, end)
    return lambda out: distillation(out.logits, teacher.logits, y, steps, meta["tau"], at, end, pad)


def check_text(case: Case, checks: Checks, golden: Golden) -> None:
    """The loss behind a text prompt: also from vectors, and as a mean over chunks of rows."""
    scaffold, y, pad = case["text/scaffold"], golden.targets, golden.pad_id
    ids, mask = golden.text(scaffold)
    at = scaffold.shape[1]
    logits = golden.run(ids, mask).logits
    checks.compare("text/loss", shifted_twice(logits, y, at, pad), "lm_loss")
    checks.compare("text/n_tokens", (y[:, 1:] != pad).sum(), "exact")
    replayed = golden.run(golden.embed(ids), mask).logits
    checks.compare("text/loss_embedding_replay", shifted_twice(replayed, y, at, pad), "lm_loss")
    chunks = [slice(i, i + TEXT_CHUNK) for i in range(0, len(y), TEXT_CHUNK)]
    means = [shifted_twice(logits[rows], y[rows], at, pad) for rows in chunks]
    mean = np.average(means, weights=[len(y[rows]) for rows in chunks])
    checks.compare("text/loss_chunked", mean, "lm_loss")


def check_deep(checks: Checks, golden: Golden) -> None:
    """Behind a key-value prefix, which takes the place of the soft prompt."""
    y, pad, none = golden.targets, golden.pad_id, golden.prefix[:, :0]
    vectors, mask = golden.composed(Wire(golden.anchor), y[:, :-1], none)
    logits, at = golden.run(vectors, mask, golden.deep).logits, len(golden.anchor)
    checks.compare("deep/tf_loss", shifted_twice(logits, y, at, pad), "lm_loss")
    checks.compare("deep/first_logits", logits[:, at - 1], "lm_value")
    checks.compare("deep/kce_K3", k_token(logits, y[:, :3], at, pad), "lm_loss")


def nll(logits: Any, targets: Any) -> Float[Array, "*n"]:
    """-log p of each target."""
    return cross_entropy(jnp.asarray(logits), jnp.asarray(targets))


def shifted_twice(logits: Any, y: np.ndarray, at: int, pad: int) -> Any:
    """The original's teacher-forced loss: position at - 1 + i is scored with y[i + 1] (D1)."""
    skip = 1 if at == 0 else 0
    behind, targets = logits[:, at - 1 + skip : at + y.shape[1] - 2], y[:, 1 + skip :]
    return _mean(nll(behind, targets), targets != pad)


def aligned(logits: Any, y: np.ndarray, at: int, pad: int) -> Any:
    """Position at - 1 + i is scored with y[i]."""
    return _mean(nll(logits[:, at - 1 : at - 1 + y.shape[1]], y), y != pad)


def k_token(logits: Any, y: np.ndarray, at: int, pad: int) -> Any:
    """Mean over steps of the mean over rows whose answer is not over."""
    losses = nll(logits[:, at - 1 : at - 1 + y.shape[1]], y)
    return jnp.mean(_mean(losses, y != pad, axis=0))


def distillation(
    student: Any, teacher: Any, y: Any, steps: int, tau: float, at: int, end: int, pad: int
) -> Any:
    """τ² KL(teacher ‖ student) at temperature τ, averaged as `k_token` is."""
    ours = jax.nn.log_softmax(student[:, at - 1 : at - 1 + steps] / tau)
    theirs = jax.nn.log_softmax(teacher[:, end - 1 : end - 1 + steps] / tau)
    divergence = jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1)
    active = (y != pad).sum(1, keepdims=True) > np.arange(steps)[None]
    return tau**2 * jnp.mean(_mean(divergence, active, axis=0))


def states_apart(
    student: Pass, teacher: Pass, layers: list[int], steps: int, at: int, end: int
) -> Any:
    """Mean squared distances of hidden states, the teacher's one token ahead (D12)."""
    kept = [i for i in layers if i < len(teacher.hidden_states)]
    ours = student.hidden_states[np.asarray(kept), :, at - 1 : at - 1 + steps]
    theirs = teacher.hidden_states[np.asarray(kept), :, end : end + steps]
    return jnp.mean(state_distance(ours, jnp.asarray(theirs)))


def _mean(values: Any, mask: Any, axis: int | None = None) -> Any:
    return jnp.sum(jnp.where(mask, values, 0.0), axis) / jnp.sum(mask, axis)
