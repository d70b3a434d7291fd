"""Plans of steps."""

import jax.numpy as jnp
import pytest

from jaxgraph.latentwire.config import Curriculum, Losses
from jaxgraph.latentwire.schedule import plan_of


def plans(total, **options):
    losses = Losses(first=0.5, curriculum=Curriculum(**options))
    return [plan_of(losses, total, jnp.asarray(step)) for step in range(total)]


def test_k_and_keep_go_from_end_to_end_with_halves_rounded_to_even():
    found = plans(7, first_steps=1, last_steps=4, first_keep=0.4, last_keep=1.0)
    assert [int(plan.k) for plan in found] == [1, 2, 2, 2, 3, 4, 4]
    assert float(found[0].keep) == pytest.approx(0.4) and float(found[-1].keep) == 1


def test_every_other_step_of_the_warm_up_is_a_text_step():
    found = plans(6, warmup=4)
    assert [float(plan.is_text) for plan in found] == [1, 0, 1, 0, 0, 0]
    scales = [float(plan.latent_scale) for plan in found]
    assert scales == pytest.approx([0.2, 1, 0.2 + 0.8 * 2 / 4, 1, 1, 1])


def test_weights_of_the_first_token():
    held = plans(10, first_token="cosine")
    weights = [float(plan.first_weight) for plan in held]
    assert weights[:5] == pytest.approx([8.0] * 5) and 0.5 < weights[-1] < 1.2
    assert weights[4:] == sorted(weights[4:], reverse=True)
    rising = plans(10, first_token="warmup")
    assert float(rising[5].first_weight) == pytest.approx(0.5 * 5 / 200)
    assert {float(plan.first_weight) for plan in plans(3)} == {0.5}
