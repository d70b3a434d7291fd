"""What a trained wire is worth: answers through it beside other ways to tell a text."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxgraph.latentwire.answers import best, clean, exact_match, f1
from jaxgraph.latentwire.conditions import Told, tell_all
from jaxgraph.latentwire.cost import costs
from jaxgraph.latentwire.hearer import Before
from jaxgraph.latentwire.intervals import bootstrap
from jaxgraph.latentwire.joint import agreement, joint_table, nll_of
from jaxgraph.latentwire.latency import latencies
from jaxgraph.latentwire.sources import nested, text_of
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate
from jaxgraph.lm.load import Lm

ROWS = 32
"""Examples at once."""
Findings = dict[str, Any]


def examine(task: Any, state: Any, split: str) -> Findings:
    """Findings as `scripts/evaluate.py` prints them, over the split's first examples."""
    config, options = task.config, task.config.evaluation
    examples = task.source.splits[split][: options.examples]
    rows, count = task.source.rows(split), len(examples)
    truths = [example.answers for example in examples]
    # Whole blocks, so that everything has one shape; repeated rows are not counted.
    places = np.arange(-(-count // ROWS) * ROWS) % count
    blocks = [
        nested({key: array[part] for key, array in rows.items()}, lengths=False)
        | {"mask": np.ones(ROWS, np.float32)}
        for part in places.reshape(-1, ROWS)
    ]
    findings: Findings = {}
    guesses: dict[str, list[str]] = {}
    wires: dict[str, list[Told]] = {}
    for name in task.lms:
        told, spread = _tell(task, state.params, name, blocks)
        said = {
            way: [guess for one in ones for guess in answers(task, name, one.before)][:count]
            for way, ones in told.items()
        }
        findings[f"{name}, {count} examples of {split}"] = [
            row(way, ones, said[way], truths, options.resamples) for way, ones in told.items()
        ]
        findings[f"{name}, mean distance of two texts' wires over their length"] = {
            "here": spread, "unrelated wires of mean 0": 2**0.5, "one wire for all texts": 0.0
        }  # fmt: skip
        guesses[name], wires[name] = said["wire"], told["wire"]
        one = jax.tree.map(lambda x: x[:1], blocks[0])
        findings[f"{name}, one answer of {config.data.max_answer_tokens} tokens"] = latencies(
            task.modules, name, state.params, task.frozen()[name], one,
            config.data.max_answer_tokens,
        )  # fmt: skip
    if len(task.lms) > 1:
        findings |= _jointly(task, guesses, wires, truths)
    texts = [text_of(example) for example in examples]
    tokens = {
        name: float(np.mean([len(lm.tokenizer.encode(text)) for text in texts]))
        for name, lm in task.lms.items()
    }
    encoder = config.encoder
    numbers = (encoder.shared_slots + encoder.private_slots * len(task.lms)) * encoder.width
    findings["what a wire costs"] = costs(numbers, options.bits, texts, tokens, encoder.slots)
    return findings


def answers(task: Any, name: str, before: Before) -> list[str]:
    """Greedy answers to what stands before them; the right answers' lengths are not known."""
    lm: Lm = task.lms[name]
    out = generate(
        lm.model, task.frozen()[name].lm, before.vectors, before.mask,
        sampling=Sampling(max_new_tokens=task.config.data.max_answer_tokens),
        stop_ids=lm.tokenizer.stop_ids, past=before.past, reading=before.reading,
    )  # fmt: skip
    tokens, lengths = jax.device_get((out.tokens, out.lengths))
    return [
        lm.tokenizer.decode(row[:n].tolist()) for row, n in zip(tokens, lengths, strict=True)
    ]


def row(
    way: str, blocks: Sequence[Told], guesses: Sequence[str], truths: Any, resamples: int
) -> dict[str, Any]:
    """One line of the table, with 95 % intervals over examples."""
    count = len(truths)
    found = jax.device_get([block.scores for block in blocks])
    each = {key: np.concatenate([block[key] for block in found])[:count] for key in found[0]}
    em, overlap = (
        np.array([best(s, clean(g), truth) for g, truth in zip(guesses, truths, strict=True)])
        for s in (exact_match, f1)
    )
    ones = np.ones(count)
    pairs = {
        "nats a token": (each["nll"], each["tokens"]), "EM": (em, ones), "F1": (overlap, ones),
        "first token": (each["first"], ones), "tokens right": (each["right"], each["tokens"]),
    }  # fmt: skip
    line: dict[str, Any] = {"told": way}
    for key, (over, under) in pairs.items():
        line[key] = float(over.sum() / under.sum())
        if key in ("nats a token", "F1", "tokens right"):
            line[f"{key}, 95 %"] = bootstrap(over, under, resamples)
    return line


def _tell(
    task: Any, params: Any, name: str, blocks: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, list[Told]], float]:
    """What one model is told in each way, block by block; how far wires are apart."""
    slots, options = task.config.encoder.slots, task.config.evaluation
    sizes = sorted({slots, *options.slots})

    @jax.jit
    def tell(params, frozen, block):
        return tell_all(task.modules, name, options.bits, sizes, params, frozen, block)

    told: dict[str, list[Told]] = {}
    spreads = []
    for block in blocks:
        found, spread = tell(params, task.frozen()[name], block)
        spreads.append(float(spread))
        for one in found:
            told.setdefault(one.way, []).append(one)
    return told, float(np.mean(spreads))


def _jointly(
    task: Any, guesses: dict[str, list[str]], wires: dict[str, list[Told]], truths: Any
) -> Findings:
    """Answers that several models find likeliest together."""
    count = len(truths)
    rows = list(zip(*guesses.values(), strict=True))
    rows = [rows[i % count] for i in range(-(-count // ROWS) * ROWS)]  # as the blocks are filled
    nll = sum(
        np.concatenate([
            nll_of(
                task.lms[name], task.frozen()[name].lm, told, rows[i * ROWS : (i + 1) * ROWS],
                task.config.data.max_answer_tokens,
            )
            for i, told in enumerate(wires[name])
        ])[:count]
        for name in task.lms
    )  # fmt: skip
    options = task.config.evaluation
    return {
        "all models together": joint_table(guesses, nll, truths, options.resamples),
        "share of examples answered alike": agreement(guesses),
    }
