"""Several models that hear one wire agree on an answer (spec/latentwire.md, section 7.2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgraph.latentwire.answers import best, clean, exact_match, f1
from jaxgraph.latentwire.conditions import Told
from jaxgraph.latentwire.intervals import bootstrap
from jaxgraph.latentwire.text import collate
from jaxgraph.lm.load import Lm
from jaxgraph.lm.score import candidate_nll


def nll_of(
    lm: Lm, params: Any, told: Told, candidates: Sequence[Sequence[str]], longest: int
) -> np.ndarray:
    """[b c]: -log p under one model of every row's candidates, each with its end."""
    before = told.before
    each = [lm.tokenizer.encode(text) for row in candidates for text in row]
    ids, real = collate([[*ids, lm.tokenizer.eos_id][:longest] for ids in each], longest)
    shape = len(candidates), len(candidates[0]), longest
    arrays = (jnp.asarray(array.reshape(shape)) for array in (ids, real))
    found = candidate_nll(
        lm.model, params, before.vectors, before.mask, *arrays, before.past,
        before.reading,
    )
    return np.asarray(found)


def joint_table(
    guesses: Mapping[str, Sequence[str]],
    nll: np.ndarray,
    truths: Sequence[Sequence[str]],
    resamples: int,
) -> list[dict[str, Any]]:
    """One line for each model, for the answer that all of them together find likeliest, and for the
    best of the answers.

    Args:
      guesses: by model, of each example.
      nll: [n c], summed over models: of each example's guesses, in the order of the models.
    """
    picked = nll.argmin(1)
    ones = np.ones(len(truths))
    scores = {
        score: np.array([
            [best(score, clean(guess), truth) for guess in row]
            for *row, truth in zip(*guesses.values(), truths, strict=True)
        ])
        for score in (exact_match, f1)
    }  # fmt: skip
    rows = {name: np.full(len(truths), i) for i, name in enumerate(guesses)}
    rows |= {"joint pick": picked, "best of them, if one knew": scores[f1].argmax(1)}
    table = []
    for name, chosen in rows.items():
        em, overlap = (scores[s][np.arange(len(truths)), chosen] for s in (exact_match, f1))
        table.append({
            "answers of": name, "EM": float(em.mean()), "F1": float(overlap.mean()),
            "F1, 95 %": bootstrap(overlap, ones, resamples),
        })  # fmt: skip
    return table


def agreement(guesses: Mapping[str, Sequence[str]]) -> float:
    """Share of examples that all models answer alike."""
    rows = list(zip(*guesses.values(), strict=True))
    return sum(
        all(exact_match(clean(a), clean(b)) for a, b in zip(row, row[1:], strict=False))
        for row in rows
    ) / len(rows)
