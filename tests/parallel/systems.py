"""One small task per system, with everything that draws numbers or looks across rows turned on."""

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.latentwire.config import Adapter, Curriculum, Data, Encoder, Gist, LatentWire, Losses
from jaxgraph.latentwire.config import Optim as WireOptim
from jaxgraph.moe.config import Ghosts, Orthogonality
from jaxgraph.neurograph.config import Learning
from jaxgraph.neurograph.config.learning import Loss
from jaxgraph.train.config import Group, Schedule
from jaxgraph.train.parallel import put
from jaxgraph.train.runner import make_runner
from jaxgraph.vae.config import Objective, Optim, Separability, Vae
from jaxgraph.vae.task import VaeTask
from tests.latentwire import test_task as wire
from tests.moe import models as moe_models
from tests.moe import test_task as moe
from tests.neurograph.faithful import test_task as faithful
from tests.neurograph.learning import graphs
from tests.vae import models as vae_models

NAMES = ("moe", "vae", "learning", "faithful", "latentwire")
SLOW_NAMES = ("ghosts",)
ROWS, STEPS = 8, 20
# Adam divides gradients by their own size: where they are rounding and no more, it would make
# whole steps of it.
STEADY = Group(kind="adam", lr=1e-3, eps=1e-3, schedule=Schedule("constant"))


class Few:
    """A handful of batches, again and again."""

    def __init__(self, batches, start=0):
        self.batches, self.start = batches, start

    def __len__(self):
        return 10**9

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Few(self.batches, self.start + (i.start or 0))
        return self.batches[(self.start + i) % len(self.batches)]

    def __iter__(self):
        i = 0
        while True:
            yield self[i]
            i += 1


class VaeSource:
    inputs, class_of = vae_models.INPUTS, (0, 1, 2, 1, 0, 2)

    def pool(self):
        return None


def make_moe(**options):
    model = moe_models.small_config(**{
        "mode": "orthogonal", "vocab_size": 0, "num_layers": 1, "num_experts": 4, "dropout": 0.1,
        "expert_loop": "vmap", "orthogonality": Orthogonality(warmup_steps=1, over="pool"),
    } | options)  # fmt: skip
    optim = replace(moe.OPTIM, expert=STEADY, ghost=STEADY, shared=STEADY)
    return moe.make(model, data=replace(moe.DATA, seq_len=8, batch_size=ROWS), optim=optim)


def make_vae():
    config = Vae(
        model=vae_models.small(inputs=0, dropout=0.1),
        objective=Objective(free_bits=0.01, free_bits_over="batch"),
        separability=Separability(
            weight=0.1, warmup_steps=0, ramp_steps=1, min_per_class=1
        ),
        optim=Optim(group=STEADY),
    )  # fmt: skip
    from jaxgraph.vae import task

    before, task.make_source = task.make_source, lambda config: VaeSource()
    try:
        return VaeTask(config, total_steps=STEPS, diagnostics_every=10**6, seed=0)
    finally:
        task.make_source = before


def make_latentwire():
    rng = np.random.default_rng(0)
    path = Path(tempfile.mkdtemp()) / "a.jsonl"
    with path.open("w") as file:
        for _ in range(60):
            words = rng.choice(wire.WORDS, 4)
            row = {"context": " ".join(words), "question": "w1", "answer": " ".join(words[:2])}
            file.write(json.dumps(row) + "\n")
    losses = Losses(
        distil=0.5, text=0.3, entropy=0.1, manifold=0.1, raw_rms=0.1, first_align=0.1,
        first_align_metric="both", states=0.1, state_layers=(0, 1), answer_align=0.1,
        gist=Gist(0.1, tokens=4, layers=1, hidden=8),
        curriculum=Curriculum(warmup=4, first_keep=0.5, last_keep=0.9),
    )  # fmt: skip
    return wire.make(
        LatentWire(
            lms=("one",), encoder=Encoder(8, layers=1, heads=2, shared_slots=3), losses=losses,
            adapter=Adapter(lengths=True), optim=WireOptim(STEADY),
            data=Data(
                str(path), max_bytes=16, max_text_tokens=6, max_answer_tokens=3, anchor="w2",
                batch_size=ROWS, validation=0.2, test=0.1,
            ),
        ),
        steps=STEPS,
    )  # fmt: skip


class Whole:
    """A `Task` of what a part of one does."""

    def __init__(self, part):
        self.init, self.train_step, self.eval_step = part.init, part.train_step, part.eval_step

    def frozen(self):
        return None

    def batches(self, split):
        raise NotImplementedError

    derive = describe = baselines = artifacts = showcase = batches


MAKE = {
    "moe": make_moe,
    "ghosts": lambda: make_moe(
        mode="ghost", ghosts=Ghosts(count=2, threshold=0.01, window=3, ramp_steps=4)
    ),
    "vae": make_vae,
    "learning": lambda: Whole(
        graphs.task(Learning(graph=graphs.GRAPH, loss=Loss(shift=1)))
    ),
    "faithful": faithful.make,
    "latentwire": make_latentwire,
}


@cache
def task(name):
    return MAKE[name]()


@cache
def batches(name):
    """Host batches whose last rows are padding here and there."""
    found = []
    for i in range(4):
        if name in ("moe", "ghosts", "latentwire"):
            batch = dict(task(name).batches("train")[i])
        elif name == "vae":
            batch = dict(vae_models.batch(ROWS, seed=i))
        elif name == "learning":
            batch = graphs.batch(ROWS, seed=i)
        else:
            rng = np.random.default_rng(i)
            batch = {
                "image": rng.integers(0, 256, (ROWS, 3, 4)).astype(np.uint8),
                "label": rng.integers(0, 10, ROWS).astype(np.int32),
            }
        batch = jax.tree.map(np.asarray, batch)
        mask = np.array(batch.get("mask", np.ones(ROWS, np.float32)))
        mask[ROWS - 1 - i :] = 0
        found.append(batch | {"mask": mask})
    return Few(found)


@cache
def start(name):
    """On the host, without compiling an initialiser."""
    own = task(name)
    with jax.disable_jit():
        if name in ("learning", "faithful"):
            state = own.init(jax.random.key(0))
        else:
            shapes = jax.eval_shape(own.init, jax.random.key(0)).replace(key=None)
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            if name == "latentwire":
                params = wire.models.draw(shapes.params)
            elif name == "vae":
                params = vae_models.random_params(own.model.config)
            else:
                params = moe_models.random_params(own.model)
            state = zeros.replace(params=params, key=jax.random.key(0))
    return state


def begin(name, runner):
    """The start, where a runner wants it."""
    state, where = start(name).replace(key=None), runner.sharding
    key = jax.jit(lambda: jax.random.key(0), out_shardings=where.key)()
    return put(jax.tree.map(jnp.copy, state), where.replace(key=None)).replace(key=key)


@cache
def run(name, parallel, steps=STEPS):
    """State after the first step, state at the end, metrics of every step, and the runner."""
    runner = make_runner(task(name), parallel, rows=ROWS)
    state = begin(name, runner)
    first, history = None, []
    for i in range(steps):
        state, metrics = runner.step(state, runner.frozen, runner.place(batches(name)[i]))
        first = jax.tree.map(jnp.copy, state) if first is None else first
        history.append(metrics)
    return first, state, jax.device_get(history), runner
