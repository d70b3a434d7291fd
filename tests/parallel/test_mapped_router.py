"""A step with a router: the same over two devices as on one, losses and loads included."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxgraph.moe import balance
from jaxgraph.moe.config import Router
from jaxgraph.moe.objective import Objective
from jaxgraph.train.config import Parallel
from jaxgraph.train.parallel import make_mesh
from jaxgraph.train.state import new_state
from jaxgraph.train.step import make_train_step
from tests.moe import models
from tests.parallel.test_mapped_steps import GRADIENT


def test_gradients_losses_and_loads_equal_those_of_one_device():
    router = Router(2, implementation="grouped", balance_weight=0.5)
    model, params, _ = models.make("gnn", num_layers=1, num_experts=4, router=router)
    state = new_state(params, GRADIENT.transform.init(params), {}, jax.random.key(0))
    ids = models.tokens(batch=4, length=10)
    # Unequal devices: padding is spread unevenly over the rows.
    mask = jnp.asarray(np.arange(9)[None] < np.array([9, 2, 5, 7])[:, None], jnp.float32)
    batch = {"inputs": ids[:, :-1], "targets": ids[:, 1:], "mask": mask}

    def step(state, batch):
        plain = make_train_step(Objective(model, 16), GRADIENT)
        return balance.summarised(plain, router)(state, None, batch)

    expected, expected_metrics = jax.jit(step)(state, batch)
    mapped = jax.shard_map(
        step, mesh=make_mesh(Parallel(data=2)), in_specs=(P(), P("data")), out_specs=P(),
    )
    found, metrics = jax.jit(mapped)(state, batch)
    moved = jax.tree.leaves(jax.tree.map(jnp.subtract, expected.params, state.params))
    assert min(float(jnp.abs(leaf).max()) for leaf in moved) > 1e-5
    for a, b in zip(*(jax.tree.leaves(s.params) for s in (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
