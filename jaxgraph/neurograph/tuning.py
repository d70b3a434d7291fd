"""A genetic search of hyperparameters: one program trains a whole generation side by side.

Selection, crossover and mutation are the original's (spec/neurograph.md, section 16). Its fitness
could not be an accuracy; here it is the accuracy on the validation split, never on the test split.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.errors import UserError
from jaxgraph.neurograph.learning.updates import Rates

SPACE: dict[str, tuple[float, ...]] = {
    "lr": (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.16),
    "b1": (0.0, 0.8, 0.9, 0.95),
    "b2": (0.98, 0.99, 0.999),
    "temperature": (0.5, 0.7, 1.0, 1.4, 2.0),
    "smoothing": (0.0, 0.02, 0.05, 0.1),
}
"""Values of each gene: all that may differ between individuals that share one compiled program."""

Genes = dict[str, float]


@dataclass(frozen=True)
class Search:
    """Options of a search."""

    population: int = 8
    generations: int = 4
    elite: float = 0.5
    """Share that survives, and from which the next generation is bred."""
    crossover: float = 0.3
    """Probability that a child has two parents."""
    mutation: float = 0.2
    """Probability of each gene to be drawn anew."""
    runs: int = 1
    """Seeds that the fitness of an individual is a mean over."""
    seed: int = 0

    @property
    def survivors(self) -> int:
        return max(1, int(self.population * self.elite))


def first_generation(search: Search) -> list[Genes]:
    """Individuals drawn evenly from the space."""
    source = _source(search, 0)
    return [
        {name: float(source.choice(values)) for name, values in SPACE.items()}
        for _ in range(search.population)
    ]


def breed(search: Search, ranked: list[Genes], generation: int) -> list[Genes]:
    """Children of the survivors `ranked`, as many as fill up the population."""
    source = _source(search, generation)
    children = []
    while len(children) < search.population - len(ranked):
        child = dict(ranked[source.integers(len(ranked))])
        if len(ranked) > 1 and source.random() < search.crossover:
            other = ranked[source.integers(len(ranked))]
            child = {name: (child if source.random() < 0.5 else other)[name] for name in SPACE}
        for name, values in SPACE.items():
            if source.random() < search.mutation:
                child[name] = float(source.choice(values))
        children.append(child)
    return children


def make_fitness(task: Any, search: Search, steps: int) -> Callable[[list[Genes]], list[float]]:
    """``fitness(individuals) -> accuracies`` on the validation split after `steps` steps.

    Args:
      task: a `NeuroGraphTask` in learning mode.
    """
    train, held = task.batches("train"), list(task.batches("validation"))
    keys = jax.random.split(jax.random.key(search.seed), search.runs)
    learn = jax.vmap(jax.vmap(task.inner.learn, (0, None, None)), (0, None, 0))
    evaluate = jax.vmap(jax.vmap(task.eval_step, (0, None, None)), (0, None, None))
    step = jax.jit(lambda states, batch, rates: learn(states, batch, rates)[0], donate_argnums=0)
    judge = jax.jit(lambda states, batch: evaluate(states, None, batch))

    def fitness(individuals: list[Genes]) -> list[float]:
        rates = Rates(*(
            jnp.array([genes[name] for genes in individuals], jnp.float32)
            for name in Rates._fields
        ))
        states = jax.vmap(lambda _: jax.vmap(task.init)(keys))(jnp.arange(len(individuals)))
        for i in range(steps):
            states = step(states, train[i], rates)
        found = [judge(states, batch) for batch in held]
        rows = sum(part["weight"] for part in found)
        right = sum(part["accuracy"] * part["weight"] for part in found)
        return np.asarray(right / rows, np.float64).mean(1).tolist()

    return fitness


def run_search(
    search: Search,
    fitness: Callable[[list[Genes]], list[float]],
    path: Path,
    settings: dict[str, Any],
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Runs all generations, or those that `path` lacks, and returns individuals, best first.

    `path` is a JSON file of `settings` and of each generation's individuals; it is replaced after
    each generation, so that a search that was stopped goes on with the next and ends the same.

    Raises:
      UserError: the file is of a search with other settings.
    """
    settings = settings | {"search": asdict(search) | {"generations": None}, "space": SPACE}
    settings = json.loads(json.dumps(settings))
    known = _read(path, settings)
    while len(known) < search.generations:
        if known:
            kept = _rank(known[-1])[: search.survivors]
            fresh = breed(search, [one["genes"] for one in kept], len(known))
        else:
            kept, fresh = [], first_generation(search)
        found = [] if not fresh else fitness(fresh)
        known.append(kept + [
            {"genes": genes, "fitness": value} for genes, value in zip(fresh, found, strict=True)
        ])
        _write(path, {"settings": settings, "generations": known})
        best = _rank(known[-1])[0]
        report(f"generation {len(known)}: best {best['fitness']:.4f} {best['genes']}")
    return _rank([one for generation in known for one in generation])


def _rank(individuals: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fittest first, each once; equal ones in the order in which they came."""
    unique = {json.dumps(one["genes"], sort_keys=True): one for one in individuals}
    return sorted(unique.values(), key=lambda one: -one["fitness"])


def _source(search: Search, generation: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[search.seed, generation]))


def _read(path: Path, settings: dict[str, Any]) -> list[Any]:
    if not path.exists():
        return []
    try:
        tree = json.loads(path.read_text())
        old, known = tree["settings"], tree["generations"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no search: {error!r}; name another folder") from error
    differ = [name for name in settings if old.get(name) != settings[name]]
    if differ:
        raise UserError(
            f"{path} is a search with other settings ({', '.join(differ)}); restore them or name "
            "another folder"
        )
    return known


def _write(path: Path, tree: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(tree, indent=1) + "\n")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}; choose a folder you own") from error
