"""A run folder as training leaves it, without any training: two layers, three experts, two ghosts.

Every metric is a simple function of the step, so that tests can tell what must be drawn.
"""

import json
from pathlib import Path

from jaxgraph import config as configs

EXPERTS, GHOSTS, LAYERS, STEPS = 3, 2, 2, 60
NODES = EXPERTS + GHOSTS
OPTIONS = [
    "--task.model.num_experts", str(EXPERTS), "--task.model.ghosts.count", str(GHOSTS),
    "--task.model.ghosts.threshold", "0.4", "--task.model.ghosts.window", "10",
]


def load(step: int, layer: int, node: int) -> float:
    sizes = [1.0 + n + layer + (step / 30 if n == 1 else 0) for n in range(EXPERTS)]
    sizes += [0.0 if step <= 20 else 1.5, 0.0]
    return sizes[node] / sum(sizes)


def saturation_factors(step: int, layer: int) -> tuple[float, float]:
    return 0.9 - 0.001 * step, 0.5 + 0.1 * layer


def level(step: int) -> float:
    return min(max(step - 20, 0) / 20, 1.0)


def plain_row(step: int) -> dict:
    """What every step logs."""
    row = {
        "step": step, "train/loss": 6 - step / 20, "train/loss/cross_entropy": 5.5 - step / 20,
        "train/loss/orthogonality": 0.01, "train/grad_norm": 1 / step, "train/items": 100,
        "train/lr/expert": 1e-3, "train/lr/ghost": 1e-3, "train/lr/rotation": 5e-4,
        "train/steps_per_second": 4.0, "train/items_per_second": 400.0, "train/skipped_steps": 0,
        "train/geometric/efficiency": 0.02, "train/orthogonality/outputs": 0.2,
        "train/orthogonality/outputs_chance": 0.05,
    }
    row["train/router/collapsed"] = 0.0
    for i in range(LAYERS):
        first, second = saturation_factors(step, i)
        row[f"train/ghosts/orthogonality/layer_{i}"] = first
        row[f"train/ghosts/unexplained/layer_{i}"] = second
        row[f"train/ghosts/level/layer_{i}"] = level(step) / 2
        row[f"train/rotation/angle/layer_{i}"] = 0.1
        row[f"train/router/load/layer_{i}/expert_0"] = 0.5
        row[f"train/router/entropy/layer_{i}"] = 0.9
    return row


def costly_row(step: int) -> dict:
    """What steps log at which diagnostics are due."""
    row = {}
    for group in ("expert", "ghost"):
        for kind in ("param", "grad", "update"):
            row[f"{kind}_norm/{group}"] = {"param": 4.0, "grad": 1.0, "update": 0.1}[kind]
    for i in range(LAYERS):
        at = f"layer_{i}"
        row[f"experts/entropy/{at}"], row[f"experts/specialization/{at}"] = 0.8, 0.3
        row[f"orthogonality/specialization/{at}"] = 0.99
        for g in range(GHOSTS):
            row[f"ghosts/level/{at}/{g}"] = level(step) if g == 0 else 0.0
        for n in range(NODES):
            row[f"experts/load/{at}/{n}"] = load(step, i, n)
        for u in range(NODES):
            for v in range(u + 1, NODES):
                asleep = v == 4 or (v == 3 and step <= 20)
                cosine = None if asleep else (u - v) / 10 + step / 100
                row[f"experts/similarity/{at}/{u}-{v}"] = cosine
                row[f"hypergraph/connection/{at}/{u}-{v}"] = 0.0 if asleep else u + v + i / 2
            for v in range(NODES):
                if u != v:
                    row[f"hypergraph/listening/{at}/{u}-{v}"] = 0.1 * u + 0.01 * v
        for e in range(EXPERTS):
            for k in range(2):
                row[f"rotation/angle/{at}/{e}-{k}"] = 0.1 * e - 0.2 * k + step / 1000
    return {f"train/diagnostics/{name}": value for name, value in row.items()}


def full_rows() -> list[dict]:
    rows = [{"step": 0, "baseline/unigram_entropy": 4.5}]
    for step in range(1, STEPS + 1):
        row = plain_row(step)
        rows.append(row | (costly_row(step) if step % 10 == 0 else {}))
        if step % 20 == 0:
            validation = {"loss": 6 - step / 21, "perplexity": 400.0 - step, "bits_per_byte": 2.0}
            rows.append({"step": step} | {f"validation/{k}": v for k, v in validation.items()})
    return rows


def write(folder: Path, rows: list[dict] | None = None, text: str | None = None) -> Path:
    """A run folder with these rows, or with this text as its metrics."""
    config = configs.load([*OPTIONS, "--workdir", str(folder)])
    configs.save(config, folder / "config.yaml")
    if text is None:
        text = "".join(json.dumps(row) + "\n" for row in (full_rows() if rows is None else rows))
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    return folder
