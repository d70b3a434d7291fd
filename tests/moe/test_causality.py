"""No token sees a later one, or another row: proved from gradients, in every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.moe import models


def influence(model, params, ghosts, ids, positions):
    """|d logits at a position of row 0 / d embedding| of every token, one [b, t] per position."""
    # A table row per place instead of per word makes the gradient one of places.
    places = jnp.arange(ids.size).reshape(ids.shape)
    table = params["token_embedding"]["embedding"]
    table = jnp.zeros_like(table).at[: ids.size].set(table[ids.reshape(-1)])

    def score(table, position):
        tree = params | {"token_embedding": {"embedding": table}}
        hidden = model.apply({"params": tree}, places, ghosts).hidden
        # Not a plain sum or sum of squares: the norm before would make its gradient vanish.
        return hidden[0, position] @ jnp.linspace(-1, 2, model.config.width)

    gradient = jax.jit(jax.grad(score))
    return [
        np.abs(gradient(table, position)[: ids.size]).sum(-1).reshape(ids.shape)
        for position in positions
    ]


# With timing `forward` the seed's ghosts wake by a statistic of the whole batch, later tokens
# included; no gradient flows there, but the second test would see it.
@pytest.mark.parametrize("name", models.MODES)
def test_output_depends_on_no_later_token_and_no_other_row(name):
    model, params, ghosts = models.make(name)
    positions = [0, 4]
    for position, found in zip(
        positions, influence(model, params, ghosts, models.tokens(), positions), strict=True
    ):
        assert (found[0, : position + 1] > 1e-6).all()
        assert (found[0, position + 1 :] == 0).all()
        assert (found[1:] == 0).all()


@pytest.mark.parametrize("name", [n for n in models.MODES if n != "ghost original"])
def test_changing_a_token_leaves_earlier_logits_alone(name):
    model, params, ghosts = models.make(name)
    ids = models.tokens()
    changed = ids.at[0, 5].set((ids[0, 5] + 1) % models.VOCAB)
    before = models.logits(model, params, ids, ghosts)
    after = models.logits(model, params, changed, ghosts)
    np.testing.assert_array_equal(before[0, :5], after[0, :5])
    np.testing.assert_array_equal(before[1], after[1])
    assert np.abs(before[0, 5:] - after[0, 5:]).max() > 1e-3
