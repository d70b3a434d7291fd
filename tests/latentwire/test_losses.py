"""Means over what is real, by rows, chunks and steps."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.latentwire.losses import answer_loss, chunked_answer_loss


@pytest.fixture(scope="module")
def answers():
    """Logits, tokens, which of them are real, and the loss of each token."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 4, 7)).astype(np.float32)
    answer, lengths = rng.integers(0, 7, (6, 4)).astype(np.int32), np.array([4, 1, 3, 2, 4, 2])
    real = np.arange(4)[None] < lengths[:, None]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logits, answer, real, -logs


def of(nll, answer):
    return np.take_along_axis(nll, answer[..., None], axis=-1)[..., 0]


def test_each_place_is_scored_with_its_token_or_with_the_next(answers):
    logits, answer, real, nll = answers
    arrays = [jnp.asarray(x) for x in (logits, answer, real)]
    aligned = of(nll, answer)[real].mean()
    assert float(answer_loss(*arrays, "aligned")) == pytest.approx(aligned, rel=1e-5)
    behind = of(nll[:, :-1], answer[:, 1:])[real[:, 1:]].mean()
    assert float(answer_loss(*arrays, "compat")) == pytest.approx(behind, rel=1e-5)


def test_chunks_of_four_rows_weigh_as_many_rows_as_they_have(answers):
    logits, answer, real, nll = answers
    each = of(nll, answer)
    means = [each[rows][real[rows]].mean() for rows in (slice(0, 4), slice(4, 6))]
    found = chunked_answer_loss(*(jnp.asarray(x) for x in (logits, answer, real)), "aligned")
    assert float(found) == pytest.approx((4 * means[0] + 2 * means[1]) / 6, rel=1e-5)
