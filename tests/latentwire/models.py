"""A tiny frozen model, an encoder and a batch for the tests of this folder."""

import zlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.latentwire.adapter import Adapter
from jaxgraph.latentwire.config import Losses
from jaxgraph.latentwire.encoder import InterlinguaEncoder
from jaxgraph.latentwire.hearer import Hearer, freeze
from jaxgraph.latentwire.modules import Modules
from jaxgraph.latentwire.objective import WireObjective
from jaxgraph.latentwire.schedule import Plan
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.llama import Llama
from jaxgraph.train.optim import path_name

WIDTH, SLOTS, VOCAB = 8, 3, 19
LLAMA = Llama(Architecture(VOCAB, 12, 1, 2, 1, 6, 16))


def draw(shapes, seed=0):
    """Parameters by NumPy, so that nothing is compiled; no bias is 0 and no scale 1."""

    def one(path, leaf):
        name = path_name(path)
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        spread = leaf.shape[-2] ** -0.5 if len(leaf.shape) >= 2 else 0.1
        centre = 1.0 if name.endswith("scale") else 0.0
        return jnp.asarray(centre + spread * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(one, shapes)


@cache
def frozen(seed=0):
    shapes = jax.eval_shape(LLAMA.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]
    return freeze(draw(shapes, seed))


def make_objective(losses=Losses(), names=("one",), private=0, between=(4, 7)):  # noqa: B008
    encoder = InterlinguaEncoder(
        WIDTH, layers=1, heads=2, shared_slots=SLOTS, private_slots=private, models=names
    )
    adapters = {name: Adapter(WIDTH, 12, SLOTS + private, length_norm=5.0) for name in names}
    hearers = {name: Hearer(LLAMA, between) for name in names}
    return WireObjective(Modules(encoder, adapters, hearers), losses)


@cache
def params(names=("one",), private=0):
    modules = make_objective(names=names, private=private).modules
    key, z = jax.random.key(0), jnp.zeros((1, SLOTS + private, WIDTH))
    shapes = {"encoder": jax.eval_shape(modules.encoder.init, key, jnp.zeros((1, 2), jnp.int32))}
    for name in names:
        shapes[f"adapter_{name}"] = jax.eval_shape(modules.adapters[name].init, key, z)
    return draw({part: tree["params"] for part, tree in shapes.items()})


def batch(names=("one",), rows=4, seed=0):
    """Texts and answers of all lengths; the first answer has one token."""
    rng = np.random.default_rng(seed)
    lengths, sizes = np.arange(rows) % 5 + 1, np.arange(rows) % 3 + 4
    place = np.arange(7)[None]
    out = {
        "bytes": rng.integers(0, 256, (rows, 7)).astype(np.int32) * (place < sizes[:, None]),
        "bytes_mask": place < sizes[:, None],
        "mask": np.ones(rows, np.float32),
    }
    for name in names:
        answer = rng.integers(0, VOCAB, (rows, 5)).astype(np.int32)
        real = np.arange(5)[None] < lengths[:, None]
        text = rng.integers(0, VOCAB, (rows, 6)).astype(np.int32)
        out[name] = {
            "answer": answer * real, "answer_mask": real, "first": answer[:, 0],
            "text": text, "text_mask": np.arange(6)[None] >= (np.arange(rows) % 3)[:, None],
        }  # fmt: skip
    return jax.tree.map(jnp.asarray, out)


def plan(k=3, keep=1.0, is_text=0.0, latent_scale=1.0, first_weight=0.5):
    values = (k, keep, is_text, latent_scale, first_weight)
    return Plan(*(jnp.float32(value) for value in values))
