"""What a trained wire is worth: answers through it beside other ways to tell a text."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.latentwire.adapter import calibrate
from jaxgraph.latentwire.answers import best, clean, exact_match, f1
from jaxgraph.latentwire.conditions import CONDITIONS, Told, diversity, pooled
from jaxgraph.latentwire.cost import costs
from jaxgraph.latentwire.intervals import bootstrap
from jaxgraph.latentwire.sources import text_of
from jaxgraph.latentwire.wire import quantise
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate
from jaxgraph.nn.losses import cross_entropy

ROWS = 32
"""Examples at once."""


def examine(task: Any, state: Any, split: str) -> dict[str, Any]:
    """Findings as `scripts/evaluate.py` prints them, over the split's first examples."""
    options, findings = task.config.evaluation, {}
    rows, examples = task.source.rows(split), task.source.splits[split]
    count = min(options.examples, len(examples))
    # Whole blocks, so that everything has one shape; repeated rows are not counted.
    places = np.arange(-(-count // ROWS) * ROWS) % count
    blocks = [
        {key: array[part] for key, array in rows.items()} for part in places.reshape(-1, ROWS)
    ]
    for name in task.lms:
        tell = jax.jit(partial(tell_all, task, name))
        scores: dict[str, list[dict[str, np.ndarray]]] = {}
        spreads = []
        for block in blocks:
            told, spread = tell(state.params, task.frozen()[name], block)
            spreads.append(float(spread))
            for condition, one in told.items():
                scores.setdefault(condition, []).append(
                    {**jax.device_get(one.scores), "guess": answers(task, name, one)}
                )
        truths = [example.answers for example in examples[:count]]
        table = [
            row(condition, found, truths, options.resamples) for condition, found in scores.items()
        ]
        findings[f"{name}: {count} examples of {split}"] = table
        findings[f"{name}: mean distance of wires"] = {
            "of two texts, over their length": float(np.mean(spreads)),
            "the same wire for every text": 0.0,
        }
    encoder = task.config.encoder
    texts = [text_of(example) for example in examples[:count]]
    tokens = {
        name: float(rows[f"{name}/text_mask"][:count].sum(1).mean()) for name in task.lms
    }
    findings["wire"] = costs(encoder.slots, encoder.width, options.bits, texts, tokens)
    return findings


def tell_all(task: Any, name: str, params: Any, frozen: Any, block: Any) -> Any:
    """Every condition's prompt and losses, and how far wires of different texts are apart."""
    objective, own = task.objective, {}
    for key, array in block.items():
        if key.startswith(f"{name}/"):
            own[key.removeprefix(f"{name}/")] = array
    hearer = objective.hearers[name]
    z = objective.encode(params, block).of(name)
    prompt = partial(lambda z: objective.prompt(params, frozen, name, z)[0])
    slots, bits = task.config.encoder.slots, task.config.evaluation.bits
    text = hearer.embed(frozen, own["text"])
    anchor = len(hearer.between)
    means = pooled(text, own["text_mask"], slots, anchor)
    befores: dict[str, Callable[[], Any]] = {
        "text": lambda: (text, own["text_mask"]),
        "wire": lambda: hearer.compose(frozen, prompt(z)),
        "quantised wire": lambda: hearer.compose(frozen, prompt(quantise(z, bits))),
        "another text's wire": lambda: hearer.compose(frozen, prompt(jnp.roll(z, 1, axis=0))),
        "text cut to the slots": lambda: (hearer.embed(frozen, own["short"]), own["short_mask"]),
        "mean embeddings": lambda: hearer.compose(frozen, calibrate(means, frozen.rms)),
        "nothing": lambda: nothing(task, name, frozen, len(z)),
    }
    told = {}
    for condition in CONDITIONS:
        before, mask = befores[condition]()
        logits = hearer.answer_logits(frozen, before, mask, own["answer"], own["answer_mask"])
        real = own["answer_mask"]
        nll = jnp.where(real, cross_entropy(logits, own["answer"]), 0.0).sum(1)
        right = (jnp.equal(logits.argmax(-1), own["answer"]) & real)
        scores = {
            "nll": nll, "tokens": real.sum(1), "right": right.sum(1), "first": right[:, 0] * 1.0
        }  # fmt: skip
        told[condition] = Told(before, mask, scores)
    return told, diversity(z)


def nothing(task: Any, name: str, frozen: Any, rows: int) -> tuple[jax.Array, jax.Array]:
    """Only the anchor; without one, what the model's texts begin with."""
    hearer, tokenizer = task.objective.hearers[name], task.lms[name].tokenizer
    begin = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    ids = hearer.between or (begin or 0,)
    ids = jnp.tile(jnp.asarray(ids, jnp.int32)[None], (rows, 1))
    return hearer.embed(frozen, ids), jnp.ones(ids.shape, bool)


def answers(task: Any, name: str, told: Told) -> list[str]:
    """Greedy answers of a block; the right answers' lengths are not known."""
    lm = task.lms[name]
    out = generate(
        lm.model, task.frozen()[name].lm, told.before, told.mask,
        sampling=Sampling(max_new_tokens=task.config.data.max_answer_tokens),
        stop_ids=tuple(lm.tokenizer.stop_ids),
    )  # fmt: skip
    tokens, lengths = jax.device_get((out.tokens, out.lengths))
    return [
        lm.tokenizer.decode(row[:n].tolist()) for row, n in zip(tokens, lengths, strict=True)
    ]


def row(condition: str, blocks: Any, truths: Any, resamples: int) -> dict[str, Any]:
    """One line of the table, with 95 % intervals over examples."""
    count = len(truths)
    each = {
        key: np.concatenate([block[key] for block in blocks])[:count]
        for key in ("nll", "tokens", "right", "first")
    }
    guesses = [clean(guess) for block in blocks for guess in block["guess"]][:count]
    em, overlap = (
        np.array([best(score, *pair) for pair in zip(guesses, truths, strict=True)])
        for score in (exact_match, f1)
    )
    ones = np.ones(count)
    pairs = {
        "nats a token": (each["nll"], each["tokens"]), "EM": (em, ones), "F1": (overlap, ones),
        "first token": (each["first"], ones), "tokens right": (each["right"], each["tokens"]),
    }  # fmt: skip
    found: dict[str, Any] = {"told": condition}
    for key, (over, under) in pairs.items():
        found[key] = float(over.sum() / under.sum())
        if key in ("nats a token", "F1"):
            found[f"{key}, 95 %"] = bootstrap(over, under, resamples)
    return found
