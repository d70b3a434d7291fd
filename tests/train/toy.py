"""A regression small enough to train in a second, shaped like a real task."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.nn import across
from jaxgraph.train.config import Group, Schedule
from jaxgraph.train.optim import group_norms, make_optimizer
from jaxgraph.train.state import new_state
from jaxgraph.train.step import LossOutput, make_train_step

WIDTH, ROWS = 4, 8
RULES = [("body", "body"), ("", "rest")]
GROUPS = {
    "body": Group(lr=0.05, schedule=Schedule("constant")),
    "rest": Group(kind="sgd", lr=0.02, b1=0.5, schedule=Schedule("cosine")),
}


def loss(params, frozen, extra, batch, key, step):
    """Masked mean square of gain * tanh(x W) v - y, with noise on x that depends on the step."""
    x = batch["x"] + 0.01 * across.draw(jax.random.normal, key, batch["x"].shape)
    guess = jnp.tanh(x @ params["body"]["kernel"]) @ params["head"]
    weight = batch["mask"].sum()
    error = jnp.sum(batch["mask"] * jnp.square(frozen["gain"] * guess - batch["y"]))
    mean = error / jnp.maximum(weight, 1)
    stats = {"mean_y": jnp.sum(batch["mask"] * batch["y"]) / jnp.maximum(weight, 1)}
    return LossOutput(mean, weight, {"loss/square": mean}, stats)


class Batches:
    """Batch i is a function of i alone; endless, or `count` long."""

    def __init__(self, seed, count=None, start=0, poison=None):
        self.seed, self.count, self.start, self.poison = seed, count, start, poison

    def __len__(self):
        return self.count or 10**9

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Batches(self.seed, self.count, self.start + (i.start or 0), self.poison)
        i += self.start
        rng = np.random.default_rng([self.seed, i])
        x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        y = np.sin(x.sum(1)).astype(np.float32)
        if self.poison == i:
            y = y * np.nan
        mask = (rng.random(ROWS) < 0.7).astype(np.float32)
        if i + 1 == self.count:
            mask[ROWS // 2 :] = 0  # the last batch of a split is a partial one
        return {"x": x, "y": y, "mask": mask}

    def __iter__(self):
        i = 0
        while self.count is None or i < self.count:
            yield self[i]
            i += 1


class Toy:
    """See `jaxgraph.train.task.Task`."""

    def __init__(self, total_steps=20, poison=None, **options):
        self.poison, self.traces = poison, 0
        self._optimizer = make_optimizer(GROUPS, RULES, total_steps=total_steps, clip=1.0)
        self._step = make_train_step(
            loss, self._optimizer,
            update_extra=lambda extra, stats: {"mean_y": 0.9 * extra["mean_y"] + stats["mean_y"]},
            diagnostics=lambda *trees: group_norms(*trees, RULES), diagnostics_every=5, **options,
        )
        self._frozen = {"gain": np.float32(1.5)}

    def train_step(self, state, frozen, batch):
        self.traces += 1
        return self._step(state, frozen, batch)

    def init(self, key):
        init_key, run_key = jax.random.split(key)
        params = {
            "body": {"kernel": jax.random.normal(init_key, (WIDTH, 16)) / 2},
            "head": jnp.zeros(16),
        }
        opt_state = self._optimizer.transform.init(params)
        return new_state(params, opt_state, {"mean_y": jnp.zeros(())}, run_key)

    def frozen(self):
        return self._frozen

    def eval_step(self, state, frozen, batch):
        out = loss(state.params, frozen, state.extra, batch, jax.random.key(0), state.step)
        return {"loss": out.loss, "weight": out.weight}

    def batches(self, split):
        if split == "train":
            return Batches(0, poison=self.poison)
        return Batches(1, count=3)

    def derive(self, metrics, split):
        return metrics | {"root": math.sqrt(metrics["loss"])}

    def describe(self):
        return {"data": "sines"}

    def baselines(self, split="validation"):
        return {"zero": 0.5}

    def artifacts(self):
        return {"note.txt": "kept"}

    def showcase(self, state):
        return ""


def close(a, b) -> bool:
    """Alike up to rounding: what two programs of the same sums can promise."""
    return all(
        np.allclose(x, y, rtol=1e-5, atol=1e-6)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def same(a, b) -> bool:
    """Bit for bit, keys included."""
    raw = lambda x: np.asarray(  # noqa: E731
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    )
    return all(
        np.array_equal(raw(x), raw(y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
