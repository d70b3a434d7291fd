"""Small models and batches for the tests of this folder."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.train.optim import path_name
from jaxgraph.vae.config import Likelihood, Model, Objective, Prior, Separability
from jaxgraph.vae.model import MixtureVae, init_params
from jaxgraph.vae.objective import VaeObjective

KINDS = {
    "real": Model(),
    "real without norms": Model(layernorm=False, activation="gelu"),
    "complex": Model(kind="complex"),
    "free bits": Model(kind="free_bits", activation="softplus"),
    "mixture prior": Model(prior=Prior("mixture", components=5)),
    "bernoulli": Model(likelihood=Likelihood("bernoulli")),
}
INPUTS = 24


def small(name: str = "real", **options) -> Model:
    base = {"inputs": INPUTS, "num_layers": 2, "dropout": 0.0} | options
    return Model(**vars(KINDS[name]) | base)


def random_params(model: Model, seed: int = 0):
    """Drawn by NumPy, so that nothing is compiled; no bias is 0 and no norm's scale 1."""
    shapes = jax.eval_shape(lambda key: init_params(MixtureVae(model), key), jax.random.key(0))

    def draw(path, leaf):
        name = path_name(path)
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        spread = leaf.shape[0] ** -0.5 if len(leaf.shape) == 2 else 0.1
        centre = 1.0 if name.endswith("scale") else 0.0
        return jnp.asarray(centre + spread * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def make_objective(
    name: str = "real", objective=Objective(), separability=Separability(), **options  # noqa: B008
):
    return VaeObjective(MixtureVae(small(name, **options)), objective, separability)


def batch(rows: int = 12, seed: int = 0, inputs: int = INPUTS, labels: int = 3):
    """Packed bits, of which some follow from the label."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(rows) % labels).astype(np.int32)
    bits = rng.integers(0, 2, (rows, inputs), np.uint8)
    bits[:, : inputs // 2] = (label == 1)[:, None]
    packed = np.packbits(bits, axis=1, bitorder="little")
    return {"bits": packed, "label": label, "mask": np.ones(rows, np.float32)}


class Batches:
    """Batch i is a function of i alone; endless, or `count` long."""

    def __init__(self, count=None, start=0, rows=12):
        self.count, self.start, self.rows = count, start, rows

    def __len__(self):
        return self.count or 10**9

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Batches(self.count, self.start + (i.start or 0), self.rows)
        return batch(self.rows, seed=self.start + i)

    def __iter__(self):
        i = 0
        while self.count is None or i < self.count:
            yield self[i]
            i += 1
