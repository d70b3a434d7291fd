"""The genetic search is deterministic, goes on where it stopped, and its fitness is measured."""

import json

import jax
import numpy as np
import pytest

from jaxgraph.errors import UserError
from jaxgraph.neurograph import tuning
from jaxgraph.neurograph.config import Graph, Learning
from jaxgraph.neurograph.tuning import Search, breed, first_generation, run_search
from tests.neurograph.learning import graphs

SEARCH = Search(population=6, generations=4, mutation=0.3, crossover=0.5)


def fitness(individuals):
    """Best where the rate is 0.04 and the second moment is long."""
    return [1 - abs(np.log(one["lr"] / 0.04)) / 10 + one["b2"] / 100 for one in individuals]


def test_it_finds_the_best_and_never_loses_it(tmp_path):
    said = []
    found = run_search(SEARCH, fitness, tmp_path / "s.json", {}, said.append)
    generations = json.loads((tmp_path / "s.json").read_text())["generations"]
    best = [max(one["fitness"] for one in generation) for generation in generations]
    assert best == sorted(best) and found[0]["fitness"] == best[-1] and len(said) == 4
    assert all(len(generation) == 6 for generation in generations)
    assert all(one["genes"][name] in tuning.SPACE[name] for one in found for name in tuning.SPACE)
    assert len({json.dumps(one["genes"]) for one in found}) == len(found)


def test_a_stopped_search_ends_as_an_unbroken_one(tmp_path):
    whole = run_search(SEARCH, fitness, tmp_path / "a.json", {}, str)

    def breaks(individuals, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fitness(individuals)

    with pytest.raises(KeyboardInterrupt):
        run_search(SEARCH, breaks, tmp_path / "b.json", {}, str)
    assert run_search(SEARCH, fitness, tmp_path / "b.json", {}, str) == whole
    with pytest.raises(UserError, match="other settings \\(search\\)"):
        run_search(Search(population=7), fitness, tmp_path / "b.json", {}, str)
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(UserError, match="is no search"):
        run_search(SEARCH, fitness, tmp_path / "b.json", {}, str)


def test_children_take_each_gene_from_a_parent_unless_it_mutates():
    low = {name: values[0] for name, values in tuning.SPACE.items()}
    high = {name: values[-1] for name, values in tuning.SPACE.items()}
    search = Search(population=12, mutation=0.0, crossover=1.0)
    children = breed(search, [low, high], 1)
    assert len(children) == 10
    assert all(child[name] in (low[name], high[name]) for child in children for name in low)
    assert any(child not in (low, high) for child in children)
    alone = breed(Search(population=12, mutation=0.0, crossover=0.0), [low, high], 1)
    assert all(child in (low, high) for child in alone)
    assert first_generation(search) != first_generation(Search(population=12, seed=1))


def test_a_population_trains_as_its_individuals_would():
    inner = graphs.task(Learning(graph=Graph(widths=(3,), patch=4, stride=4)), steps=6)

    class Task:
        def __init__(self):
            self.inner, self.init, self.eval_step = inner, inner.init, inner.eval_step

        def batches(self, split):
            if split == "train":
                return [graphs.batch(16, seed=i) for i in range(6)]
            return [graphs.batch(64, seed=99)]

    two = [dict(lr=0.1, b1=0.9, b2=0.99, temperature=1.0, smoothing=0.0)]
    two.append(two[0] | {"lr": 0.005})
    found = tuning.make_fitness(Task(), Search(seed=3), 6)(two)
    key = jax.random.split(jax.random.key(3), 1)[0]
    learn = jax.jit(inner.learn)
    for genes, value in zip(two, found, strict=True):
        state = inner.init(key)
        for batch in Task().batches("train"):
            state, _ = learn(state, batch, inner.rates._replace(**genes))
        (held,) = Task().batches("validation")
        alone = jax.jit(inner.eval_step)(state, None, held)["accuracy"]
        assert value == pytest.approx(float(alone), abs=0.02)
    assert found[0] != found[1]
