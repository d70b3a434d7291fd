"""Golden texts of LatentWire (JSON): bytes, cleaned and scored answers, prompts."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.latentwire import answers, text

Results = dict[str, Any]
GIVEN = (
    "text", "texts", "max_bytes", "pred", "truth", "preds", "golds", "truths", "anchor", "mode",
    "pad", "bos",
)  # fmt: skip


def recognises(case: Case) -> bool:
    """Whether sections that we know are in a JSON case."""
    return case.path.suffix == ".json" and any(name in case.meta for name in SECTIONS)


def check(case: Case, checks: Checks) -> None:
    """Recomputes each entry; what is text must agree exactly."""
    checks.expects = tuple(name for name in case.arrays if _is_result(name))
    for section, compute in SECTIONS.items():
        found = case.meta.get(section, [])
        for i, entry in enumerate(found if isinstance(found, list) else [found]):
            for name, ours in compute(entry).items():
                compare(checks, f"{section}/{i}/{name}", ours, entry[name])


def compare(checks: Checks, name: str, ours: Any, expected: Any) -> None:
    """Scores as numbers, everything else as it is written."""
    if np.size(expected) and np.asarray(expected).dtype.kind == "f":
        checks.compare_with(name, ours, expected, "float64")
    else:
        same = json.dumps(ours) == json.dumps(expected)
        checks.compare_with(name, same, True, "exact")


def _is_result(name: str) -> bool:
    section, _, part = name.split("/")
    given = part in GIVEN or (section, part) == ("first_non_bos", "ids")
    return section != "versions" and not given


def _bytes(entry: Results) -> Results:
    return {"ids": text.to_bytes(entry["text"], entry["max_bytes"])}


def _collate(entry: Results) -> Results:
    rows = [text.to_bytes(one, entry["max_bytes"]) for one in entry["texts"]]
    return {"ids": text.collate(rows)[0].tolist()}


def _clean(entry: Results) -> Results:
    label = answers.WRAPPER_LABEL
    return {
        "out": answers.clean(entry["text"]),
        "out_wrapper_variant": answers.clean(entry["text"], label=label),
    }


def _scores(entry: Results) -> Results:
    pair = entry["pred"], entry["truth"]
    return {"em": answers.exact_match(*pair), "f1": answers.f1(*pair)}


def _batch(entry: Results) -> Results:
    return _means(entry["preds"], [[gold] for gold in entry["golds"]])


def _squad(entry: Results) -> Results:
    return _means(entry["preds"], entry["truths"])


def _means(guesses: list[str], truths: list[list[str]]) -> Results:
    pairs = list(zip(guesses, truths, strict=True))
    scores = (answers.exact_match, answers.f1)
    return {"out": [float(np.mean([answers.best(s, *pair) for pair in pairs])) for s in scores]}


def _first(entry: Results) -> Results:
    ids = np.asarray(entry["ids"])
    return {"out": text.first_ids(ids, entry["pad"], entry["bos"]).tolist()}


SECTIONS: dict[str, Callable[[Results], Results]] = {
    "byte_tokenizer": _bytes,
    "collate": _collate,
    "clean_pred": _clean,
    "em_f1": _scores,
    "batch_metrics": _batch,
    "squad_em_f1": _squad,
    "split_user_and_anchor": lambda e: {"out": list(text.split_anchor(e["text"], e["anchor"]))},
    "bos_policy": lambda e: {"out": text.wants_bos(e["mode"], e["anchor"])},
    "neutral_chat": lambda e: {"out": text.neutral_chat(e["text"])},
    "gsm8k": lambda e: {"out": answers.find_number(e["text"])},
    "first_non_bos": _first,
}
