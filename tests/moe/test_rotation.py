"""Turns are rotations, act as dense matrices would, and stand where the config says."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.moe.config import Rotation, Views
from jaxgraph.moe.experts import init_bank, make_block, run_bank
from jaxgraph.moe.model import LanguageModel
from jaxgraph.moe.rotation import Turns, cayley, fold_rotations, make_turns
from jaxgraph.moe.rotator import Rotator, givens, householder
from jaxgraph.nn.attention import causal_mask
from tests.moe import models

WIDTH = 12


def draw(config, count=1, seed=0, width=WIDTH):
    """Free parameters of turns, large enough for angles of more than a radian."""
    params = Turns(config, count, width).init(jax.random.key(seed))["params"]
    keys = jax.random.split(jax.random.key(seed + 1), len(params))
    return {
        name: param + jax.random.normal(key, param.shape)
        for (name, param), key in zip(params.items(), keys, strict=True)
    }


def one_turn(config, seed=0):
    turns = make_turns(config, draw(config, seed=seed))
    return jax.tree.map(lambda leaf: leaf[0], turns)


def dense(turn, x):
    """R of each token of x, [b, t, d, d], from its definition."""
    angles = np.broadcast_to(turn.angles(x), (*x.shape[:2], turn.bias.shape[0]))
    out = np.zeros((*x.shape[:2], x.shape[-1], x.shape[-1]))
    basis = np.asarray(turn.basis, np.float64)
    size = basis.shape[1]
    for place in np.ndindex(*x.shape[:2]):
        if turn.config.kind == "planes":
            inner = np.eye(size)
            for j, angle in enumerate(angles[place]):
                pair = np.ix_([j, j + size // 2], [j, j + size // 2])
                inner[pair] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        else:
            skew = np.zeros((size, size))
            skew[np.triu_indices(size, 1)] = angles[place]
            skew -= skew.T
            inner = np.linalg.inv(np.eye(size) + skew) @ (np.eye(size) - skew)
        out[place] = np.eye(x.shape[-1]) + basis @ (inner - np.eye(size)) @ basis.T
    return out


SORTS = [Rotation(planes=3), Rotation(planes=3, angles="token"), Rotation("cayley", planes=3)]


@pytest.mark.parametrize("config", SORTS, ids=lambda c: f"{c.kind} {c.angles}")
def test_turns_are_rotations_in_few_dimensions_and_equal_their_matrices(config):
    turn = one_turn(config)
    x = jax.random.normal(jax.random.key(3), (2, 4, WIDTH))
    angles, matrices = turn.angles(x), dense(turn, x)
    np.testing.assert_allclose(
        turn.rotate(x, angles), np.einsum("btcd,btd->btc", matrices, x), atol=3e-6
    )
    np.testing.assert_allclose(
        turn.rotate(x, -angles), np.einsum("btdc,btd->btc", matrices, x), atol=3e-6
    )
    for matrix in matrices.reshape(-1, WIDTH, WIDTH):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(WIDTH), atol=2e-6)
        np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=2e-6)
        moved = np.linalg.svd(matrix - np.eye(WIDTH), compute_uv=False)
        assert (moved[:6] > 1e-3).all() and (moved[6:] < 1e-5).all()
    assert np.abs(angles).max() <= config.max_angle
    assert (np.ptp(np.asarray(angles), axis=(0, 1)).max() > 0.1) == (config.angles == "token")


def test_each_expert_sees_its_own_turn_and_answers_in_the_common_frame():
    config = models.small_config(num_heads=2, width=WIDTH)
    block = make_block(config)
    params = init_bank(jax.random.key(0), block, 3, WIDTH)
    x = jax.random.normal(jax.random.key(1), (2, 5, WIDTH))

    def run(rotation, loop="map", levels=None):
        turns = make_turns(rotation, free)
        return run_bank(
            block, params, x, causal_mask(5), train=False, dropout_key=None, loop=loop,
            levels=levels, turns=turns,
        )[0]

    def slow(rotation):
        turns, out = make_turns(rotation, free), []
        for e in range(3):
            matrices = dense(jax.tree.map(lambda leaf, e=e: leaf[e], turns), x)
            read = jnp.asarray(np.einsum("btcd,btd->btc", matrices, x), jnp.float32)
            own = jax.tree.map(lambda p, e=e: p[e], params)
            y = block.apply({"params": own}, read, causal_mask(5), train=False)[0]
            out.append(np.einsum("btdc,btd->btc", matrices, y) if rotation.undo else y)
        return np.stack(out)

    for rotation in (Rotation(planes=2, angles="token"), Rotation(planes=2, undo=False)):
        free = draw(rotation, 3)
        expected = slow(rotation)
        np.testing.assert_allclose(run(rotation), expected, atol=1e-5)
        np.testing.assert_allclose(run(rotation, "vmap"), expected, atol=1e-5)
        levels = jnp.array([1.0, 0.0, 0.5])
        asleep = run(rotation, levels=levels)
        np.testing.assert_allclose(asleep[::2], expected[::2], atol=1e-5)
        assert (asleep[1] == 0).all()


def test_gradients_at_the_identity_are_finite_and_turns_can_leave_it():
    x = jax.random.normal(jax.random.key(0), (1, 3, WIDTH))
    for config in SORTS:
        free = jax.tree.map(lambda p: p[0], draw(config))
        free |= {"bias": jnp.zeros_like(free["bias"])}
        if "kernel" in free:
            free |= {"kernel": jnp.zeros_like(free["kernel"])}

        def score(free, config=config):
            stacked = jax.tree.map(lambda p: p[None], free)
            turns = make_turns(config, stacked)
            return jax.vmap(lambda turn: turn.rotate(x, turn.angles(x)))(turns)[..., 0].sum()

        grads = jax.grad(score)(free)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
        assert np.abs(grads["bias"]).min() > 1e-4
        zero = free | {"reflectors": free["reflectors"].at[1].set(0)}
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(score)(zero)))


@pytest.mark.parametrize("name", ["gnn", "ghost awake"])
def test_turns_behind_the_norms_fold_into_the_weights(name):
    rotation = Rotation(placement="norms")
    model, params, ghosts = models.make(name, train_mode="geometric_routed", rotation=rotation)
    folded, config = fold_rotations(params, model.config)
    assert not config.routed and "rotation" not in folded["layer_0"]
    expected = models.logits(model, params, models.tokens(), ghosts)
    found = models.logits(LanguageModel(config), folded, models.tokens(), ghosts)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    unturned = {name: {k: v for k, v in sub.items() if k != "rotation"}
                for name, sub in params.items()}
    plain = models.logits(LanguageModel(config), unturned, models.tokens(), ghosts)
    assert np.abs(plain - expected).max() > 1e-2
    with pytest.raises(UserError, match="rotation.placement 'block'.*cannot be folded"):
        fold_rotations(params, replace(model.config, rotation=Rotation()))


def test_turns_of_sleeping_ghosts_are_not_even_looked_at():
    model, params, ghosts = models.make("routed by token, ghosts awake")
    broken = {name: dict(sub) for name, sub in params.items()}
    for i in range(model.config.num_layers):
        turns = broken[f"layer_{i}"]["rotation"]
        broken[f"layer_{i}"]["rotation"] = {k: v.at[3:].set(jnp.nan) for k, v in turns.items()}
    asleep = ghosts.replace(levels=jnp.zeros_like(ghosts.levels))
    ids = models.tokens()
    expected = models.logits(model, params, ids, asleep)
    np.testing.assert_array_equal(models.logits(model, broken, ids, asleep), expected)
    assert np.isnan(models.logits(model, broken, ids, ghosts)).any()


# The seed's forms, against plain NumPy.
def seed_matrices(kind, theta, size):
    if kind == "householder":
        v = np.zeros(size)
        v[: min(size, len(theta))] = theta[:size]
        v /= np.linalg.norm(v)
        return np.eye(size) - 2 * np.sin(0.1 * np.linalg.norm(theta)) * np.outer(v, v)
    angles, pairs = 2 * np.tanh(theta), np.stack(np.triu_indices(size, 1), 1)
    if kind == "givens":
        product = np.eye(size)
        for (i, j), angle in zip(pairs, angles, strict=False):
            turn = np.eye(size)
            turn[i, i] = turn[j, j] = np.cos(angle)
            turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
            product = product @ turn
        return product
    skew = np.zeros((size, size))
    for (i, j), angle in zip(pairs, angles, strict=False):
        skew[i, j], skew[j, i] = angle, -angle
    return np.linalg.solve(np.eye(size) + skew, np.eye(size) - skew)


@pytest.mark.parametrize("kind", ["householder", "cayley", "givens"])
@pytest.mark.parametrize("dimensions", [4, 20])  # fewer and more than the width, and than pairs
def test_presentations_of_the_seed(kind, dimensions):
    size = 6
    rotator = Rotator(Views(kind, dimensions, shared_basis=kind == "cayley"), 2, size)
    x = jax.random.normal(jax.random.key(0), (2, 3, size))
    params = rotator.init(jax.random.key(1), x, jnp.array(0))["params"]
    params = jax.tree.map(lambda p: p + 0.5 * jax.random.normal(jax.random.key(2), p.shape), params)
    found = rotator.apply({"params": params}, x, jnp.array(1))
    own = {name: np.asarray(param[1], np.float64) for name, param in params.items()}
    turned = np.asarray(x) @ seed_matrices(kind, own["theta"], size).T
    if kind == "givens":
        expected = turned @ own["projector"].T
    else:
        expected = turned * own["scale"] + own["shift"]
    if kind == "cayley":
        expected = expected + np.asarray(params["basis"]) @ own["coefficients"]
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_two_of_the_seeds_forms_are_rotations_and_its_own_is_none():
    theta = jnp.array([1.5, -2.0, 0.7, 3.0])
    for matrix in (cayley(theta, 6), givens(theta, 6)):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(6), atol=2e-6)
        np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=2e-6)
    scaled = householder(jnp.eye(6)[None], theta)[0]
    assert np.abs(scaled @ scaled.T - np.eye(6)).max() > 0.1


def test_the_seeds_turn_has_gradient_zero_at_zero():
    x = jax.random.normal(jax.random.key(0), (1, 3, 6))
    grad = jax.grad(lambda theta: householder(x, theta).sum())(jnp.zeros(4))
    np.testing.assert_array_equal(grad, 0)
