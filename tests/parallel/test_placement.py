"""Where arrays lie: rules that cover everything, actual shards and bytes, clear refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.train.config import Parallel
from jaxgraph.train.optim import path_name
from jaxgraph.train.parallel import make_mesh, pad_rows
from jaxgraph.train.placement import EXPERT, SPREAD, WHOLE, bytes_by_device, make_shardings
from jaxgraph.train.runner import make_runner
from tests.parallel import systems
from tests.train import toy

SHAPES = {
    "params": {"layer_0": {"experts": {"kernel": jnp.zeros((4, 16, 64)), "bias": jnp.zeros((4, 8))},
                           "head": {"kernel": jnp.zeros((40, 50))}}},
    "step": jnp.zeros((), jnp.int32),
}  # fmt: skip
RULES = [("/experts/", EXPERT), ("", SPREAD)]


def specs(parallel, rules=RULES, shapes=SHAPES):
    found = make_shardings(make_mesh(parallel), shapes, rules, fsdp=parallel.fsdp)
    flat = jax.tree_util.tree_flatten_with_path(found)[0]
    return {path_name(path): tuple(sharding.spec) for path, sharding in flat}


def test_each_leaf_lies_where_its_rule_says():
    kernel, bias, head = (
        "params/layer_0/experts/kernel", "params/layer_0/experts/bias",
        "params/layer_0/head/kernel",
    )  # fmt: skip
    assert set(specs(Parallel(data=8)).values()) == {()}
    experts = specs(Parallel(data=2, expert=4))
    assert experts == {kernel: ("expert",), bias: ("expert",), head: (), "step": ()}
    both = specs(Parallel(data=2, expert=4, fsdp=True))
    # The longest axis that divides; small arrays stay in one piece.
    assert both == {
        kernel: ("expert", None, "data"), bias: ("expert",), head: (("data", "expert"),),
        "step": (),
    }
    assert specs(Parallel(data=8, fsdp=True))[head] == ("data",)
    kept = specs(Parallel(data=8, fsdp=True), [("head", WHOLE), ("", SPREAD)])
    assert kept[head] == () and kept[kernel] == (None, None, "data")


def test_what_no_rule_covers_is_named():
    with pytest.raises(UserError, match=r"params/layer_0/head/kernel, step"):
        specs(Parallel(data=8), [("/experts/", EXPERT)])


@pytest.mark.parametrize("parallel, shares", [
    (Parallel(data=8, fsdp=True), {"experts": 8, "moments": 8}),
    (Parallel(data=2, expert=4), {"experts": 4, "moments": 4}),
    (Parallel(data=4, expert=2, fsdp=True), {"experts": 8, "moments": 8}),
])  # fmt: skip
def test_shards_of_a_state_and_their_bytes(parallel, shares):
    """Of the arrays themselves, parameters and moments alike."""
    runner = make_runner(systems.task("moe"), parallel, rows=systems.ROWS)
    state = systems.begin("moe", runner)
    large = lambda leaf: leaf.size >= 1024  # noqa: E731
    held, whole = 0, 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(state.replace(key=None))[0]:
        held += leaf.addressable_shards[0].data.nbytes
        whole += leaf.nbytes
        name = path_name(path)
        if "/experts/" in name and large(leaf):
            own = leaf.addressable_shards[0].data.size
            kind = "moments" if name.startswith("opt_state") else "experts"
            assert leaf.size == own * shares[kind], name
            assert len({str(shard.index) for shard in leaf.addressable_shards}) == shares[kind]
    assert held == bytes_by_device(runner.shapes, runner.sharding)
    if parallel.fsdp:
        assert held < 0.3 * whole


def test_a_state_is_born_where_it_stays():
    runner = make_runner(toy.Toy(), Parallel(data=8, fsdp=True), rows=8)
    state = runner.init(0)
    for leaf, sharding in zip(*map(jax.tree.leaves, (state, runner.sharding)), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    lowered = runner._init.lower(jax.random.key(0)).compile()
    assert lowered.output_shardings.params["head"].spec == runner.sharding.params["head"].spec


@pytest.mark.parametrize("parallel", [Parallel(data=2), Parallel("pmap", data=2)])
def test_the_state_before_is_given_away(parallel):
    runner = make_runner(toy.Toy(), parallel, rows=8)
    state = runner.init(0)
    before = jax.tree.leaves(state.params)
    batch = runner.place(toy.Batches(0)[0])
    state, _ = runner.step(state, runner.frozen, batch)
    again, _ = runner.step(state, runner.frozen, runner.place(toy.Batches(0)[1]))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert all(leaf.is_deleted() for leaf in before)
    assert again.params["head"].shape == (16,)


REFUSED = [
    ("moe", Parallel(data=3), "8 rows does not divide by 3 devices"),
    ("moe", Parallel(data=2, expert=3), "8 rows does not divide by 6 devices"),
    ("vae", Parallel(data=2, expert=2), "parallel.expert: got 2, .*no stacked experts"),
    ("moe", Parallel(data=3, expert=3), "parallel.expert: 9 devices asked for, 8"),
]


@pytest.mark.parametrize("name, parallel, message", REFUSED)
def test_what_does_not_fit_is_named(name, parallel, message):
    with pytest.raises(UserError, match=message):
        make_runner(systems.task(name), parallel, rows=systems.ROWS)


def test_experts_that_do_not_divide_are_named():
    shapes = {"experts": {"kernel": jnp.zeros((6, 8))}}
    rules = [("experts", EXPERT)]
    with pytest.raises(UserError, match=r"experts/kernel \[6, 8\] does not divide by 4"):
        specs(Parallel(data=2, expert=4), rules, shapes)


@pytest.mark.parametrize("rows", [5, 16])
@pytest.mark.parametrize("backend", ["mesh", "pmap"])
def test_evaluation_takes_any_number_of_rows(rows, backend):
    """Batches are padded and the padding masked."""
    rng = np.random.default_rng(0)
    batch = {
        "x": rng.normal(size=(rows, 4)).astype(np.float32),
        "y": rng.normal(size=rows).astype(np.float32), "mask": np.ones(rows, np.float32),
    }  # fmt: skip
    task = toy.Toy()
    runner = make_runner(task, Parallel(backend, data=8), rows=8)
    state = systems.put(jax.jit(task.init)(jax.random.key(1)), runner.sharding)
    found = runner.evaluate(state, runner.frozen, batch)
    assert float(found["weight"]) == rows
    expected = task.eval_step(jax.device_get(state.replace(key=None)), task.frozen(), batch)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    assert len(pad_rows(batch, 8)["mask"]) == (8 if rows == 5 else 16)
