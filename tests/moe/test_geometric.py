"""Geometric training modes: presentations, their memory, the loss terms, and steps of each mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgraph
from jaxgraph import config
from jaxgraph.errors import UserError
from jaxgraph.moe import geometric
from jaxgraph.moe.config import Ghosts, Hypergraph, Views
from jaxgraph.moe.ghosts import init_ghosts
from jaxgraph.moe.layer import LayerOutput
from jaxgraph.moe.model import LanguageModel
from jaxgraph.moe.task import RULES
from jaxgraph.nn.losses import cross_entropy
from jaxgraph.train.optim import by_path
from tests.moe import models


def presenting(loop="scan", **options):
    config = models.small_config(train_mode="geometric", views=Views(loop=loop), **options)
    model = LanguageModel(config)
    return model, models.random_params(model)


def objective(model, params, ids, views, key=None):
    hidden, _, _ = geometric.run_views(
        model, params, ids, None, views, summarise=lambda out: (), dropout_key=key
    )
    angles, _ = geometric.view_angles(model, params)
    terms = geometric.view_terms(hidden, angles, jnp.ones(ids.shape))
    return geometric.mean_view(hidden)[..., 0].sum() + terms.total(model.config.geometric)


def test_one_by_one_and_side_by_side_give_the_same_loss_and_gradients():
    ids, found = models.tokens(), []
    for loop in ("scan", "vmap"):
        model, params = presenting(loop, mode="gnn", num_layers=1, dropout=0.3)
        run = jax.jit(jax.value_and_grad(partial(objective, model)))
        found.append(run(params, ids, jnp.arange(3), jax.random.key(1)))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6), *found)
    grads = found[0][1]
    assert (grads["token_embedding"]["embedding"] == 0).all()  # as in the seed
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads["rotator"]))


def test_memory_of_scanned_presentations_does_not_grow_with_their_number():
    ids = models.tokens(batch=4, length=16)

    def needed(loop, count):
        model, params = presenting(loop, mode="gnn", num_layers=1, num_experts=2)
        views = jnp.arange(count) % 2
        step = jax.jit(jax.grad(partial(objective, model)))
        return step.lower(params, ids, views).compile().memory_analysis().temp_size_in_bytes

    # A presentation needs its hidden states for the loss; side by side, all its activations too.
    states = 4 * 16 * 16 * 4
    scan, vmap = (needed(loop, 12) - needed(loop, 4) for loop in ("scan", "vmap"))
    assert scan <= 8 * 3 * states
    assert vmap > 20 * scan


def test_the_mean_of_logits_is_the_logits_of_the_mean():
    model, params = presenting(mode="gnn")
    hidden = jax.random.normal(jax.random.key(0), (3, 2, 9, 16))
    ids = models.tokens()
    head = params["head"]
    every = jnp.einsum("pbtd,dv->pbtv", hidden, head["kernel"]) + head["bias"][None, None, None]
    expected = cross_entropy(every.mean(0), ids)
    mean = geometric.mean_view(hidden)
    found = cross_entropy(model.apply({"params": params}, mean, method="logits"), ids)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_ghosts_of_the_seed_move_with_every_presentation():
    ghosts = Ghosts(count=2, threshold=0.0, statistic="original", timing="forward",
                    mixing="original")
    options = dict(mode="ghost", ghosts=ghosts, hypergraph=Hypergraph(operator="original"))
    model, params = presenting(**options)
    start = init_ghosts(model.config)
    hidden, state, kept = geometric.run_views(
        model, params, models.tokens(), start, jnp.arange(3),
        summarise=lambda out: out.ghosts.levels,
    )
    # One wakes per call; the third call, when nobody sleeps any more, moves both.
    np.testing.assert_allclose(kept[:, 0], [[0.01, 0], [0.01, 0.01], [0.02, 0.02]], atol=1e-7)
    np.testing.assert_array_equal(kept[-1], state.levels)
    out = model.apply({"params": params}, models.tokens(), start, view=jnp.array(0))
    np.testing.assert_allclose(hidden[0], out.hidden, atol=1e-5)


def layer_of(updates, angles):
    zero = jnp.zeros((1, *updates.shape[1:]))
    return LayerOutput(updates, zero, angles, (), None, None, None, None, None, None)


def terms_of(updates, mask, angles=None):
    config = models.small_config(num_experts=len(updates))
    angles = jnp.ones((len(updates), 1, 1, 2)) if angles is None else angles
    return geometric.routed_terms((layer_of(updates, angles),), config, mask)


def test_our_terms_of_known_geometry():
    mask, sign = jnp.ones((1, 4)), jnp.array([1.0, -1, 1, -1])
    # Every token has its own expert, in turn.
    apart = jnp.eye(4)[:, None, :, None] * jnp.ones((1, 1, 1, 5))
    np.testing.assert_allclose(terms_of(apart, mask).specialization, 0, atol=1e-6)
    alike = jnp.ones((4, 1, 1, 1)) * sign[None, None, :, None] * jnp.ones((1, 1, 1, 5))
    found = terms_of(alike, mask, jnp.full((4, 1, 1, 2), 0.5))
    np.testing.assert_allclose(jnp.stack(found), [1, 0.25, 1], atol=1e-6)
    crossed = jnp.eye(5)[:4, None, None, :] * sign[None, None, :, None]
    np.testing.assert_allclose(terms_of(crossed, mask).orthogonality, 0, atol=1e-6)
    # One expert that does everything, everywhere, has not specialised.
    alone = jnp.zeros((4, 1, 4, 5)).at[0].set(1)
    np.testing.assert_allclose(terms_of(alone, mask).specialization, 1, atol=1e-6)
    # A constant offset is no likeness.
    np.testing.assert_allclose(terms_of(crossed + 7, mask).orthogonality, 0, atol=1e-6)


def test_padding_counts_in_no_term():
    keys = jax.random.split(jax.random.key(0), 2)
    mask = jnp.ones((2, 5)).at[:, 3:].set(0)
    updates = jax.random.normal(keys[0], (3, 2, 5, 8))
    angles = jax.random.normal(keys[1], (3, 2, 5, 4))
    cut = terms_of(updates[:, :, :3], mask[:, :3], angles[:, :, :3])
    found = terms_of(updates, mask, angles)
    np.testing.assert_allclose(jnp.stack(found), jnp.stack(cut), rtol=1e-5)
    cut = geometric.view_terms(0.1 * updates[:, :, :3], angles[:, 0, 0], mask[:, :3])
    found = geometric.view_terms(0.1 * updates, angles[:, 0, 0], mask)
    np.testing.assert_allclose(jnp.stack(found), jnp.stack(cut), rtol=1e-5)
    assert found.specialization > 0


def load(*options):
    base = "--task.model.width 16 --task.model.num_layers 1 --task.data.seq_len 16"
    argv = (base + " --task.data.batch_size 4 " + " ".join(options)).split()
    return jaxgraph.load_task("configs/smoke/moe.yaml", argv)


def step_of(task, state):
    ids = models.tokens(batch=4, length=17)
    mask = jnp.ones((4, 16)).at[0, 5:].set(0)
    batch = {"inputs": ids[:, :-1], "targets": ids[:, 1:], "mask": mask}
    return jax.jit(task.train_step)(state, None, batch)


def moved(before, after):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(before.params), jax.tree.leaves(after.params),
            strict=True,
        )
        if (a != b).any()
    }


def test_a_routed_step_moves_turns_at_their_own_rate_and_splits_over_micro_batches():
    options = (
        "--task.model.train_mode geometric_routed --task.model.rotation.angles token",
        "--task.model.mode hgnn --task.model.ghosts.count 0",
        "--task.model.dropout 0 --task.optim.clip 0 --task.optim.rotation.lr 0.01",
        "--task.optim.rotation.kind sgd --task.optim.expert.kind sgd --task.optim.shared.kind sgd",
    )
    whole = load(*options)
    state = whole.init(jax.random.key(0))
    after, metrics = step_of(whole, state)
    assert {"reflectors", "bias", "kernel"} == {
        name.rsplit("/", 1)[1] for name in moved(state, after) if "/rotation/" in name
    }
    np.testing.assert_allclose(metrics["lr/rotation"], 0.01, rtol=1e-5)
    assert set(by_path(state.params, RULES)["layer_0"]["rotation"].values()) == {"rotation"}
    assert 0 < metrics["rotation/angle/layer_0"] < 2 and metrics["geometric/efficiency"] > 0
    split, other = step_of(load(*options, "--task.optim.accumulate 2"), state)
    np.testing.assert_allclose(other["loss/geometric"], metrics["loss/geometric"], rtol=1e-5)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), split.params, after.params
    )


@pytest.mark.parametrize("mode", ["geometric", "geometric_fast"])
def test_the_seeds_modes_train_what_they_train_there(mode):
    task = load(f"--task.model.train_mode {mode} --task.optim.trainable experts_only")
    state = task.init(jax.random.key(0))
    after, metrics = step_of(task, state)
    names = moved(state, after)
    rotator = {name for name in names if name.startswith("rotator/")}
    # In the fast mode nothing but a penalty on the angles reaches the rotator (D11).
    everything = {"rotator/theta", "rotator/scale", "rotator/shift"}
    assert rotator == (everything if mode == "geometric" else {"rotator/theta"})
    assert names - rotator and not [
        name for name in names - rotator if "/experts/" not in name and "/ghosts/" not in name
    ]
    assert 0 < metrics["rotation/angle/used"] < metrics["rotation/angle/penalised"]
    total = sum(metrics[f"loss/{part}"] for part in ("cross_entropy", "geometric", "orthogonality"))
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--task.model.train_mode geometric_routed --task.model.rotation.planes 17",
         "task.model.rotation.planes: 17 planes"),
        ("--task.model.rotation.kind cayley --task.model.rotation.angles token",
         "task.model.rotation.kind: 'cayley'"),
        ("--task.model.rotation.placement norms --task.model.rotation.angles token",
         "task.model.rotation.placement: 'norms'"),
        ("--task.model.rotation.placement norms --task.model.rotation.undo False",
         "task.model.rotation.undo: False"),
        ("--task.model.views.kind givens --task.model.views.shared_basis True",
         "task.model.views.shared_basis: True"),
        ("--task.model.train_mode geometric --task.optim.accumulate 2", "task.optim.accumulate: 2"),
        ("--task.model.train_mode geometric --task.model.views.loop vmap "
         "--task.model.ghosts.timing forward --task.model.ghosts.statistic original",
         "task.model.views.loop: 'vmap'"),
    ],
)
def test_combinations_that_cannot_be_are_refused(options, words):
    with pytest.raises(UserError) as caught:
        config.load(["--config", "configs/smoke/moe.yaml", *options.split()])
    assert words in str(caught.value) and "allowed" in str(caught.value)
