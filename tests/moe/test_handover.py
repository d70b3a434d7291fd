"""Learning rates of ghosts that follow the primaries' schedule and their own level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.data.config import TextData
from jaxgraph.interop.cases.moe_loops import cosine_periodic, ghost_rates
from jaxgraph.moe.config import Ghosts, Moe, Optim
from jaxgraph.moe.ghosts import init_ghosts
from jaxgraph.moe.handover import make_handover, rate_factors
from jaxgraph.moe.task import MoeTask
from jaxgraph.train.config import Group, Schedule
from jaxgraph.train.optim import make_schedule
from tests.moe import models

LEVELS = jnp.array([[0.5, 0.0], [1.0, 0.25]])
STEADY = Schedule("constant")


@pytest.mark.parametrize("share, inverse, complementary", [
    (1.0, 0.0, 0.1), (0.25, 0.75, 0.475), (0.0, 1.0, 0.6),
])
def test_factors_by_the_formulas(share, inverse, complementary):
    for coupling, factor in (("inverse", inverse), ("complementary", complementary)):
        config = Ghosts(count=2, lr_coupling=coupling)
        at = lambda step, c=config: rate_factors(  # noqa: E731
            LEVELS, jnp.asarray(share), jnp.asarray(step), c
        )
        np.testing.assert_allclose(at(3), factor * LEVELS, rtol=1e-6)
        np.testing.assert_allclose(at(0), factor * LEVELS, rtol=1e-6)


def test_the_seeds_scope_gives_the_rates_of_its_legacy_loop():
    config = Ghosts(count=2, lr_coupling="inverse", lr_coupling_scope="original")
    share = make_schedule(Schedule("cosine_periodic"), 1.0, 10)
    # Parameters of one number a ghost, all updates 1: what comes back are the factors.
    updates = {f"layer_{i}": {"ghosts": jnp.ones((2, 1))} for i in (0, 1)}
    scale = jax.jit(make_handover(config, share, lambda step: 0.3))
    before, state = 0.3, init_ghosts(models.small_config(mode="ghost", ghosts=config))
    for step in range(14):
        extra = {"ghosts": state.replace(levels=LEVELS * (step + 1) / 14)}
        scaled, metrics = scale(updates, extra, jnp.asarray(step))
        for layer in scaled.values():
            np.testing.assert_allclose(0.3 * layer["ghosts"], np.full((2, 1), before), atol=1e-7)
        np.testing.assert_allclose(metrics["lr/ghost"], before, atol=1e-7)
        # The original sets the next step's rate after this one, from the levels then in use.
        levels = [float(x) for x in LEVELS[0] * (step + 2) / 14]
        before = ghost_rates(0.3, cosine_periodic(1.0, step + 1, 10), 1.0, levels, "inverse")[0]


def test_each_ghost_moves_by_its_own_factor_and_all_else_as_ever():
    def make(coupling):
        ghosts = Ghosts(count=2, threshold=2.0, lr_coupling=coupling)
        model = models.small_config(mode="ghost", vocab_size=0, num_layers=1, ghosts=ghosts)
        group = Group(lr=1e-2, weight_decay=0.5, decay="all", schedule=STEADY)
        falling = Group(lr=1e-2, schedule=Schedule("linear"))
        optim = Optim(expert=falling, ghost=group, shared=group)
        data = TextData(seq_len=8, batch_size=4)
        return MoeTask(Moe(model, data, optim), total_steps=10, diagnostics_every=99, seed=0)

    plain, coupled = make("none"), make("complementary")
    params = models.random_params(plain.model)
    state = jax.eval_shape(plain.init, jax.random.key(0))
    state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state.replace(key=()))
    start = init_ghosts(plain.model.config).replace(levels=jnp.array([[0.5, 0.0]]))
    state = state.replace(
        params=params, extra={"ghosts": start}, key=jax.random.key(1), step=jnp.asarray(4)
    )
    ids = models.tokens(length=9)
    batch = {"inputs": ids[:, :-1], "targets": ids[:, 1:], "mask": jnp.ones((2, 8))}
    expected, _ = jax.jit(plain.train_step)(state, None, batch)
    found, metrics = jax.jit(coupled.train_step)(state, None, batch)

    # After 4 of 10 steps 1 - s is 0.4.
    factor = (0.4 / 2 + 0.1) * 0.5
    np.testing.assert_allclose(metrics["lr/ghost"], 1e-2 * factor, rtol=1e-5)
    np.testing.assert_allclose(metrics["ghosts/lr/layer_0"], 1e-2 * factor, rtol=1e-5)
    old, new, free = (s.params["layer_0"].pop("ghosts") for s in (state, found, expected))
    for a, b, c in zip(*map(jax.tree.leaves, (old, new, free)), strict=True):
        np.testing.assert_allclose(b[0] - a[0], factor * (c[0] - a[0]), atol=2e-6)
        # Without coupling weight decay moves the sleeper.
        assert (b[1] == a[1]).all() and not (c[1] == a[1]).all()
    for a, b in zip(*map(jax.tree.leaves, (found.params, expected.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
