"""Small models for the tests of this folder."""

import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.moe.config import Ghosts, Hypergraph, Model, Rotation, Router
from jaxgraph.moe.ghosts import init_ghosts
from jaxgraph.moe.model import LanguageModel, init_params
from jaxgraph.train.optim import path_name

VOCAB, LENGTH = 61, 9
MODES = {
    "gnn": dict(mode="gnn"),
    "hgnn pairs": dict(mode="hgnn"),
    "hgnn triplets": dict(mode="hgnn", num_experts=4, hypergraph=Hypergraph("triplets")),
    # Five experts have ten pairs: with more hyperedges than nodes the seed leaks the future.
    "hgnn original": dict(
        mode="hgnn", num_experts=5, hypergraph=Hypergraph(operator="original")
    ),
    "orthogonal all": dict(mode="orthogonal", hypergraph=Hypergraph("all")),
    "ghost asleep": dict(mode="ghost", ghosts=Ghosts(count=2)),
    "ghost awake": dict(mode="ghost", ghosts=Ghosts(count=2)),
    "hgnn pairwise": dict(mode="hgnn", hypergraph=Hypergraph(operator="pairwise")),
    "ghost pairwise": dict(
        mode="ghost", ghosts=Ghosts(count=2), hypergraph=Hypergraph(operator="pairwise")
    ),
    "ghost triple": dict(
        mode="ghost", ghosts=Ghosts(count=2), hypergraph=Hypergraph(operator="triple")
    ),
    "ghost original": dict(
        mode="ghost",
        ghosts=Ghosts(count=2, statistic="original", timing="forward", mixing="original"),
        hypergraph=Hypergraph(operator="original"),
    ),
    "routed": dict(mode="hgnn", train_mode="geometric_routed", rotation=Rotation(undo=False)),
    "routed by token, ghosts awake": dict(
        mode="ghost", ghosts=Ghosts(count=2), train_mode="geometric_routed",
        rotation=Rotation(angles="token"),
    ),
    "top-2 grouped": dict(mode="gnn", router=Router(2, implementation="grouped")),
    "top-2 turned, ghosts awake": dict(
        mode="ghost", coupling="none", ghosts=Ghosts(count=2), router=Router(2),
        train_mode="geometric_routed",
    ),
}


def small_config(**options) -> Model:
    base = dict(
        vocab_size=VOCAB, width=16, num_layers=2, num_heads=4, num_experts=3, max_seq_len=16,
        dropout=0.0,
    )
    return Model(**(base | options))


def make(name: str, **options):
    """Model, parameters away from their symmetric start, and ghosts (awake where the name says)."""
    config = small_config(**(MODES[name] | options))
    model = LanguageModel(config)
    params = random_params(model)
    ghosts = init_ghosts(config) if config.ghosts.count else None
    if name.endswith("awake") or name in ("ghost pairwise", "ghost triple"):
        ghosts = ghosts.replace(levels=jnp.array([[1.0, 0.3], [0.5, 0.0]]))
    return model, params, ghosts


def random_params(model, seed: int = 0):
    """Parameters of a trained model's size, drawn by NumPy: initialising would compile for seconds.

    No bias is 0 and no norm's scale 1, so that nothing holds by accident.
    """
    shapes = jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0))

    def draw(path, leaf):
        # A leaf's values depend on its name only: models that differ elsewhere agree in it.
        name = path_name(path)
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        centre = 1.0 if name.endswith("scale") else 0.0
        return jnp.asarray(centre + 0.15 * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def tokens(batch: int = 2, length: int = LENGTH, seed: int = 7):
    return jax.random.randint(jax.random.key(seed), (batch, length), 0, VOCAB)


@partial(jax.jit, static_argnums=0)
def logits(model, params, ids, ghosts=None):
    hidden = model.apply({"params": params}, ids, ghosts).hidden
    return model.apply({"params": params}, hidden, method="logits")
