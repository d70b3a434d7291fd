"""The same step on one device, under jit on eight, under pmap and under shard_map.

Gradients are compared directly: Adam would hide a factor of eight.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxgraph.nn import across
from jaxgraph.train.config import Parallel
from jaxgraph.train.optim import Optimizer
from jaxgraph.train.parallel import batch_sharding, make_mesh
from jaxgraph.train.state import new_state
from jaxgraph.train.step import make_train_step
from tests.train.test_step import quiet_loss

# Plain gradient descent at rate 1: the change of the parameters is the gradient.
GRADIENT = Optimizer(optax.sgd(1.0), {})


def setting(parts):
    rng = np.random.default_rng(0)
    batch = {
        "x": rng.normal(size=(32, 4)).astype(np.float32),
        "y": rng.normal(size=32).astype(np.float32),
        # Very unequal devices: some hold no real row at all.
        "mask": (np.arange(32) % 8 < rng.integers(0, 5, 32)).astype(np.float32),
    }
    params = {
        "body": {"kernel": jnp.asarray(rng.normal(size=(4, 16)), jnp.float32)},
        "head": jnp.asarray(rng.normal(size=16), jnp.float32),
    }
    state = new_state(params, GRADIENT.transform.init(params), {"mean": 0.0}, jax.random.key(0))
    options = dict(update_extra=lambda _, stats: stats, accumulate=parts)
    return state, batch, options


def by_jit(step, state, batch):
    return jax.jit(step)(state, None, batch)


def by_mesh(step, state, batch):
    where = batch_sharding(make_mesh(Parallel()), 32)
    return jax.jit(step)(state, None, jax.device_put(batch, where))


def by_pmap(step, state, batch):
    cut = jax.tree.map(lambda x: x.reshape(8, 4, *x.shape[1:]), batch)
    mapped = jax.pmap(
        lambda s, b: step(s, None, b), axis_name="data", in_axes=(None, 0), out_axes=None
    )
    return mapped(state, cut)


def by_shard_map(step, state, batch):
    mapped = jax.shard_map(
        lambda s, b: step(s, None, b), mesh=make_mesh(Parallel()), in_specs=(P(), P("data")),
        out_specs=P(),
    )
    return jax.jit(mapped)(state, batch)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("run", [by_mesh, by_pmap, by_shard_map])
def test_gradients_and_statistics_equal_those_of_one_device(run, parts):
    state, batch, options = setting(parts)
    step = make_train_step(quiet_loss, GRADIENT, **options)
    expected, expected_metrics = by_jit(step, state, batch)
    found, metrics = run(step, state, batch)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected.params, state.params)
    assert min(jax.tree.leaves(moved)) > 1e-2
    for a, b in zip(
        jax.tree.leaves((found.params, found.extra)),
        jax.tree.leaves((expected.params, expected.extra)), strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-6)
    for name in ("loss", "items", "grad_norm"):
        np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-6)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("run", [by_mesh, by_pmap, by_shard_map])
def test_each_row_gets_the_noise_that_one_device_would_draw_for_it(run, parts):
    def noisy(params, frozen, extra, batch, key, step):
        out = quiet_loss(params, frozen, extra, batch, key, step)
        drawn = across.draw(jax.random.uniform, key, batch["y"].shape)
        mean = jnp.sum(batch["mask"] * drawn * batch["y"]) / jnp.maximum(batch["mask"].sum(), 1)
        return out._replace(stats={"mean": mean})

    state, batch, options = setting(parts)
    step = make_train_step(noisy, GRADIENT, **options)
    expected, _ = by_jit(step, state, batch)
    found, _ = run(step, state, batch)
    assert abs(expected.extra["mean"]) > 1e-3
    np.testing.assert_allclose(found.extra["mean"], expected.extra["mean"], rtol=1e-5)


@pytest.mark.parametrize(
    "stacked, whole, part", [(False, (32, 3), (4, 3)), (True, (5, 32, 3), (5, 4, 3))]
)
def test_each_device_gets_rows_of_its_own(stacked, whole, part):
    where = batch_sharding(make_mesh(Parallel()), 32, stacked=stacked)
    assert where.shard_shape(whole) == part
