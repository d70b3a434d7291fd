"""Golden cases of the geometric MoE: forward passes, gradients, ghosts, checkpoints.

What the entries mean stands in the README of the cases; training runs are in `moe_train.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import moe_geometric, moe_older, moe_train
from jaxgraph.interop.cases.moe_model import (
    Golden,
    load_golden,
    read_labels,
    read_mask,
    read_tokens,
    run,
    start_ghosts,
)
from jaxgraph.interop.rules.moe import RULES, read_checkpoint
from jaxgraph.interop.torch import has_torch, to_torch
from jaxgraph.moe.ghosts import original_scores, wake
from jaxgraph.moe.hypergraph import incidence
from jaxgraph.nn.losses import cross_entropy


def recognises(case: Case) -> bool:
    """MoE cases name their kind and hold the original's settings under `config`."""
    return isinstance(case.meta.get("kind"), str) and "cfg" not in case.meta


def check(case: Case, checks: Checks) -> None:
    """Recomputes a case; nothing of a kind that we do not know."""
    if handler := KINDS.get(case.meta["kind"]):
        handler(case, checks)


def check_forward(case: Case, checks: Checks, prefix: str = "out/") -> Golden:
    """Everything on the way to the loss, its gradient, and the side results."""
    golden = load_golden(case)
    tokens = read_tokens(case, "in/input_ids", golden.config)
    mask = read_mask(case, tokens)
    labels = read_labels(case, tokens, mask)
    ghosts = start_ghosts(golden.config)
    result = run(golden.model, golden.params, tokens, mask, labels, ghosts)
    for name, value in result.trace.items():
        checks.compare(prefix + name, value, "value")
    _check_gradients(case, checks, result.grads)

    # The original cuts the last column before the call; no earlier token could see it anyway.
    loss = cross_entropy(result.trace["logits"][:, :-1], jnp.asarray(tokens)[:, 1:]).mean()
    checks.compare(prefix + "controller_loss", loss, "value")
    if prefix + "logits_nomask" in case.arrays:
        everything = np.ones_like(mask)
        result = run(golden.model, golden.params, tokens, everything, labels, ghosts)
        checks.compare(prefix + "logits_nomask", result.trace["logits"], "value")
    if golden.config.coupled:
        _check_hypergraph(case, checks, golden)
    return golden


def check_ghost_sequence(case: Case, checks: Checks) -> None:
    """Calls in a row on one model, whose ghosts wake on the way; then the controller alone."""
    golden = load_golden(case)
    ghosts = start_ghosts(golden.config)
    tokens = read_tokens(case, "in/input_ids", golden.config, axes=3)
    mask = read_mask(case, tokens)
    seen: dict[str, list] = {}
    for ids, real in zip(tokens, mask, strict=True):
        last = run(golden.model, golden.params, ids, real, ids * real, ghosts)
        ghosts = last.output.ghosts
        scores = [original_scores(layer.moments) for layer in last.output.layers]
        orthogonality = np.array([s.orthogonality for s in scores], np.float64)
        unexplained = np.array([s.unexplained for s in scores], np.float64)
        saturation = orthogonality * unexplained
        row = {
            "logits_seq": last.trace["logits"],
            "orthogonality_score": orthogonality,
            "unexplained_variance": unexplained,
            "saturation_level": saturation,
            "needs_activation": saturation > golden.config.ghosts.threshold,
            "activation_levels": ghosts.levels,
            "ghost_state": ghosts.phase,
        }
        for name, value in row.items():
            seen.setdefault(name, []).append(np.asarray(value))
    exact = ("needs_activation", "activation_levels", "ghost_state")
    for name, values in seen.items():
        kind = "exact" if name in exact else "value" if name == "logits_seq" else "statistic"
        checks.compare(f"out/{name}", np.stack(values), kind)
    for name, value in last.trace.items():
        checks.compare(f"out/last/{name}", value, "value")
    _check_gradients(case, checks, last.grads)
    if "in/controller_trigger" in case.arrays:
        _check_controller(case, checks, golden)


def check_checkpoint(case: Case, checks: Checks) -> None:
    """The original's own `.pt` file, beside the case under the same name."""
    path = case.path.with_suffix(".pt")
    if not (has_torch() and path.exists()):
        return
    stored = read_checkpoint(path)
    golden = load_golden(case, stored.tensors)
    tokens = read_tokens(case, "in/input_ids", golden.config)
    mask = read_mask(case, tokens)
    ghosts = start_ghosts(golden.config)
    result = run(golden.model, golden.params, tokens, mask, tokens * mask, ghosts)
    checks.compare("out/logits", result.trace["logits"], "value")
    checks.compare("out/loss", result.trace["loss"], "value")
    same = stored.model == golden.config
    checks.compare_with("config of the checkpoint", same, True, "exact")
    if "params" in case.meta:
        count = sum(leaf.size for leaf in jax.tree.leaves(golden.params))
        checks.compare_with("params", count, case.meta["params"], "exact")


def check_collision(case: Case, checks: Checks) -> None:
    """More hyperedges than nodes: the original leaks between tokens, and we must give the values
    of isolated tokens (spec D1). What it computes with the leak stays unchecked."""
    golden = check_forward(case, checks, "out/isolated/")
    leak = case.arrays.get("out/isolated_leak")
    tokens = read_tokens(case, "in/input_ids", golden.config)
    if leak is None or leak.shape != tokens.shape or tokens.shape[1] <= CHANGED[1]:
        return
    mask = read_mask(case, tokens)
    changed = tokens.copy()
    changed[CHANGED] = (changed[CHANGED] + 1) % golden.config.vocab_size
    labels, ghosts = read_labels(case, tokens, mask), start_ghosts(golden.config)
    logits, other = (
        run(golden.model, golden.params, ids, mask, labels, ghosts).trace["logits"]
        for ids in (tokens, changed)
    )
    # To which id the original changed the token is not recorded, so its own and later positions,
    # which may change, are not compared.
    ours = np.array(jnp.abs(other - logits).max(-1))
    ours[CHANGED[0], CHANGED[1] :] = leak[CHANGED[0], CHANGED[1] :]
    checks.compare("out/isolated_leak", ours, "value")


def _check_gradients(case: Case, checks: Checks, grads: object) -> None:
    grads = to_torch(grads, RULES)
    for key, grad in grads.items():
        checks.compare(f"grad/{key}", grad, "gradient")
    for key in case.meta.get("grad_none", []):
        ours = grads.get(key, np.array(np.nan))  # a weight that we lack agrees with nothing
        checks.compare_with(f"grad/{key}", ours, np.zeros_like(ours), "exact")


def _check_hypergraph(case: Case, checks: Checks, golden: Golden) -> None:
    """Our hyperedges against the original's, and its adjacency with edge weights (spec 3.3)."""
    edges = incidence(golden.config.num_experts, golden.config.hypergraph.strategy)
    if "in/hyperedge_index" in case.arrays:
        # Pairs (edge, node) in order; the case's index has nodes in its first row.
        ours = np.argwhere(edges.T > 0)[:, ::-1].T
        theirs = case["in/hyperedge_index"]
        checks.compare_with("in/hyperedge_index", ours, theirs, "exact")
    weights = golden.params["layer_0"]["coupler"].get("hyperedge_weights", np.ones(edges.shape[1]))
    adjacency = (edges * weights) @ edges.T * (1 - np.eye(len(edges)))
    checks.compare("out/adjacency_layer0", adjacency, "value")


def _check_controller(case: Case, checks: Checks, golden: Golden) -> None:
    ghosts = golden.config.ghosts

    def step(carry, trigger):
        carry = wake(*carry, trigger, ghosts)
        return carry, carry

    start = jnp.zeros(ghosts.count), jnp.zeros(ghosts.count, jnp.int32)
    trigger = jnp.asarray(case["in/controller_trigger"] != 0)
    _, (levels, phase) = jax.lax.scan(step, start, trigger)
    checks.compare("out/controller_levels", levels, "exact")
    checks.compare("out/controller_state", phase, "exact")


CHANGED = (0, 5)
"""Row and position of the token that collision cases change."""
KINDS = {
    "forward": check_forward,
    "ghost_sequence": check_ghost_sequence,
    "checkpoint": check_checkpoint,
    "collision": check_collision,
    "rotator": moe_geometric.check_rotator,
    "train": moe_train.check,
    "old_design": moe_older.check,
}
