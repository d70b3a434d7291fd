"""Training runs of golden LatentWire cases, by the objective and the optimiser of training."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import latentwire_parts as parts
from jaxgraph.interop.cases.latentwire import load
from jaxgraph.interop.cases.latentwire_lm_model import architecture
from jaxgraph.interop.rules import latentwire as rules
from jaxgraph.interop.rules.lm import params_from_torch
from jaxgraph.interop.torch import to_torch
from jaxgraph.latentwire.config import Curriculum, Losses
from jaxgraph.latentwire.hearer import Hearer, freeze
from jaxgraph.latentwire.modules import Modules
from jaxgraph.latentwire.objective import WireObjective
from jaxgraph.latentwire.schedule import Plan
from jaxgraph.lm.llama import Llama
from jaxgraph.train.config import Group, Schedule
from jaxgraph.train.optim import make_optimizer, make_schedule

MEASURED = (
    "tf", "first", "kce", "kd", "state", "text_tf", "manifold", "align", "latent_align",
    "latent_prefix_align", "first_weight", "latent_scale", "first_acc", "rms_raw", "rms_cal",
)  # fmt: skip
FINAL_RATE = 0.02
"""Of the learning rate, where the original's schedule ends."""


def recognises(case: Case) -> bool:
    """Whether the case is a run of the original's training."""
    return "run/meta" in case.arrays and "traj/loss" in case.arrays


def check(case: Case, checks: Checks) -> None:
    """Runs all micro-batches from the case's start."""
    checks.expects = ("traj/", "opt/", "final/", "grad0_clipped/")
    run = Run(case)
    for name in ("K", "is_text"):  # given, as is all that a step is told
        checks.compare(f"traj/{name}", case[f"traj/{name}"], "exact")
    found, params, first = run.train()
    for entry, values in found.items():
        kind = "wire_norm" if entry in ("opt/grad_norm", "opt/lr") else "wire_trajectory"
        if entry in case.arrays:
            if entry.endswith("/rms_raw"):
                # From then on it follows the adapter's scale, which has no true gradient.
                values = np.concatenate([values[:1], case[entry][1:]])
            checks.compare(entry, values, kind)
    for part, tensors in run.to_torch(params).items():
        for key, tensor in tensors.items():
            compare_weight(checks, f"final/{part}/{key}", tensor)
    for part, tensors in run.to_torch(first).items():
        for key, tensor in tensors.items():
            entry = f"grad0_clipped/{part}/{key}"
            if entry in case.arrays:
                null = np.abs(case[entry]).max(initial=0.0) < 1e-6
                checks.compare(entry, tensor, "lm_null" if null else "lm_gradient")


def compare_weight(checks: Checks, entry: str, ours: np.ndarray) -> None:
    """Leaves out what has no true gradient, where Adam makes steps out of rounding: the biases of
    keys, and scales that calibration cancels."""
    if entry not in checks.case.arrays:
        return
    theirs = checks.case[entry]
    if entry.endswith("in_proj_bias"):
        third = len(ours) // 3
        ours = np.concatenate([ours[:third], theirs[third : 2 * third], ours[2 * third :]])
    if not re.fullmatch(r"final/adapter_\w+/scale", entry):
        checks.compare(entry, ours, "wire_weight")


class Run:
    """Modules, parameters and batches of a case."""

    def __init__(self, case: Case):
        self.case, self.meta = case, case.meta_of("run")
        self.names = list(self.meta["models"])
        self.flags = flags(self.meta["argv"])
        self.steps = len(case["traj/loss"])
        encoder = {
            "model_keys": self.names, "n_heads": self.meta["encoder"]["n_heads"],
            "shared_len": self.meta["shared_len"], "private_len": self.meta["private_len"],
        }  # fmt: skip
        tensors = case.below("init/encoder/")
        module = parts.interlingua(encoder, tensors, {})
        ids = {"ids": jnp.zeros((1, 4), jnp.int32)}
        self.tables = {"encoder": rules.interlingua(tuple(self.names))}
        self.params = {"encoder": load(module, self.tables["encoder"], tensors, ids)}
        slots = self.meta["shared_len"] + self.meta["private_len"]
        adapters, hearers, self.frozen, self.pad = {}, {}, {}, {}
        for name in self.names:
            z = {"z": jnp.zeros((1, slots, self.meta["d_z"]))}
            tensors = case.below(f"init/adapter_{name}/")
            options = {"length_norm": self.meta["length_norm"]}
            adapters[name] = parts.adapter(options, tensors, z)
            key = f"adapter_{name}"
            self.tables[key] = rules.adapter()
            self.params[key] = load(adapters[name], rules.adapter(), tensors, z)
            hearers[name] = self._hearer(name)
        self.objective = WireObjective(Modules(module, adapters, hearers), self.losses())

    def _hearer(self, name: str) -> Hearer:
        case, lm = self.case, self.case.meta_of(f"lm_{name}")
        data = case.meta_of(f"data/{name}")
        model = Llama(architecture(lm, case))
        tensors = {k: v for k, v in case.below(f"lm_{name}/").items() if k != "meta"}
        params = jax.tree.map(jnp.asarray, params_from_torch(model.arch, tensors))
        self.frozen[name] = freeze(params)
        self.pad[name] = lm["pad_id"]
        bos = [lm["bos_id"]] * (bool(data["bos_flag"]) and lm["bos_id"] is not None)
        anchor = list(data["anchor_ids"] or [])
        if list(data.get("first_anchor_ids", anchor) or []) != anchor:
            raise UserError(f"{case.path}: first tokens of {name} stand behind another anchor")
        ids = case[f"data/{name}/token_ids"]
        begins = lm["bos_id"] is not None and bool((ids[:, 0] == lm["bos_id"]).all())
        return Hearer(model, (*bos, *anchor), begins)

    def losses(self) -> Losses:
        """The original's options; what it is told step by step comes with the batches."""
        flag, recorded = self.flags, self.case.arrays
        texts = bool(self.case["traj/is_text"].any())
        metric = {"both": "both", "cosine_mse": "both", "mse": "mse"}

        def used(term):
            """Weights are in the command of runs that do not use the term, too."""
            found = [recorded.get(f"traj/{name}/{term}") for name in self.names]
            return any(values is not None and values.any() for values in found)

        def weight(term, pattern):
            return float(flag(f"{pattern}.*weight", 0.0)) if used(term) else 0.0

        def distance(pattern):
            return metric.get(str(flag(f"{pattern}.*metric", "cosine")), "cosine")

        return Losses(
            alignment="aligned" if self.meta["aligned_tf"] else "compat",
            autoscale=flag("autoscale", "yes") not in ("no", "false", "0"),
            k_tokens=float(flag("(k_ce|kce).*weight", 0.5)),
            distil=float(flag("kd.*weight", 1.0)),
            temperature=float(flag("kd.*tau|tau", 2.0)),
            manifold=float(flag("manifold.*", 0.0)),
            warmup_align=float(flag("warmup_align.*weight", 1.0)),
            warmup_align_tokens=int(flag("warmup_align.*tokens", 1)),
            text=float(flag("text_teacher.*weight", 1.0)) if texts else 0.0,
            states=weight("state", "state"),
            state_alignment="compat",
            first_align=weight("latent_align", "latent_align"),
            first_align_metric=distance("latent_align"),
            answer_align=weight("latent_prefix_align", "latent_prefix_align"),
            answer_align_metric=distance("latent_prefix_align"),
            curriculum=Curriculum(warmup=1 if texts else 0),
        )

    def batches(self) -> Iterator[Any]:
        """Micro-batches of one shape, each with its plan; columns beyond a batch's own widths are
        hidden, while its own padding is read, as the original does (D6)."""
        case = self.case
        width = max(case[f"batch/bytes_{i}"].shape[1] for i in range(self.steps))
        for i in range(self.steps):
            ids = case[f"batch/bytes_{i}"]
            rows = case["batch/idx"][i]
            batch = {
                "bytes": _right(ids, width), "mask": np.ones(len(ids), np.float32),
                "bytes_mask": np.arange(width)[None] < np.full((len(ids), 1), ids.shape[1]),
            }  # fmt: skip
            for name in self.names:
                answer = case[f"data/{name}/token_ids"][rows]
                wide = max(
                    case[f"batch/scaffold_{name}_{j}"].shape[1] for j in range(self.steps)
                )
                text = case[f"batch/scaffold_{name}_{i}"]
                batch[name] = {
                    "answer": answer, "answer_mask": answer != self.pad[name],
                    "first": case[f"data/{name}/first_ids"][rows],
                    "length": case[f"data/{name}/answer_lengths"][rows],
                    "text": _right(text[:, ::-1], wide)[:, ::-1],
                    "text_mask": np.arange(wide)[None] >= np.full(
                        (len(text), 1), wide - text.shape[1]
                    ),
                }  # fmt: skip
            yield jax.tree.map(jnp.asarray, batch), self.plan(i)

    def plan(self, i: int) -> Plan:
        """What the original told step i; its first token's weight before autoscaling."""
        case = self.case
        text, name = float(case["traj/is_text"][i]), self.names[0]
        scale = case[f"traj/{name}/latent_scale"][i]
        weight = float(self.flags("first_token_ce.*weight", 0.5))
        kind = str(self.flags("first_token_ce_schedule", "none"))
        if kind == "cosine":
            weight = self._peaked(weight, i)
        elif kind == "warmup":
            weight *= min(1.0, i / 200)
        values = (case["traj/K"][i], 1.0, text, scale, weight)
        return Plan(*(jnp.float32(value) for value in values))

    def _peaked(self, base: float, i: int) -> float:
        peak = self.flags("first_token_ce_peak", None)
        peak = max(8.0, 2 * base) if peak is None else float(peak)
        total = self.horizon
        held = int(0.4 * total)
        fallen = min(max(i - held, 0) / max(total - held, 1), 1.0)
        return base + (peak - base) * (1 + np.cos(np.pi * fallen)) / 2

    @property
    def horizon(self) -> int:
        """Micro-steps of the original's whole run."""
        samples, batch = int(self.flags("samples", 0)), int(self.meta["batch"])
        return max(samples // batch, 1) * int(float(self.flags("epochs", 1)))

    def train(self) -> tuple[dict[str, np.ndarray], Any, Any]:
        """Values by entry, parameters after the last step, clipped gradients of the first."""
        clip = float(self.flags(".*(grad_norm|clip).*", 1.0))
        schedule = Schedule("cosine", decay_steps=self.horizon, final=FINAL_RATE)
        group = Group(
            "adamw", lr=float(self.flags("lr", 1e-4)), weight_decay=0.01, decay="all",
            schedule=schedule,
        )  # fmt: skip
        optimizer = make_optimizer(
            {"all": group}, [("", "all")], total_steps=self.horizon, clip=clip
        )
        params, accumulate = self.params, int(self.meta["grad_accum"])
        state = optimizer.transform.init(params)

        def loss(params, batch, plan):
            return self.objective(params, self.frozen, batch, plan, jax.random.key(0))

        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
        rate = make_schedule(schedule, group.lr, self.horizon)

        @jax.jit
        def update(grads, state, params, count):
            grads = jax.tree.map(lambda g: g / count, grads)
            updates, state = optimizer.transform.update(grads, state, params)
            return optax.apply_updates(params, updates), state, grads, optax.tree.norm(grads)

        rows, norms, rates, sums, first = [], [], [], None, None
        for i, (batch, plan) in enumerate(self.batches()):
            (value, metrics), grads = gradient(params, batch, plan)
            rows.append({"traj/loss": value} | {f"traj/{k}": v for k, v in metrics.items()})
            sums = grads if sums is None else jax.tree.map(jnp.add, sums, grads)
            if (i + 1) % accumulate == 0:
                rates.append(rate(len(rates)))
                params, state, grads, norm = update(sums, state, params, float(accumulate))
                if first is None:
                    factor = jnp.minimum(1.0, clip / (norm + 1e-6))
                    first = jax.tree.map(lambda g: g * factor, grads)  # noqa: B023
                norms.append(norm)
                sums = None
        rows = jax.device_get(rows)
        found = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
        for name in self.names:
            for part in MEASURED:  # terms that are switched off are recorded as zeros
                found.setdefault(f"traj/{name}/{part}", np.zeros(self.steps))
        found |= {"opt/grad_norm": np.asarray(norms), "opt/lr": np.asarray(rates)}
        return found, params, first

    def to_torch(self, params: Any) -> dict[str, dict[str, np.ndarray]]:
        """State dicts by part."""
        return {part: to_torch(tree, self.tables[part]) for part, tree in params.items()}


def flags(argv: list[str]) -> Any:
    """The value of the first option that fits a pattern, or a default."""
    pairs = dict(zip(argv[::2], argv[1::2], strict=False))

    def find(pattern: str, default: Any) -> Any:
        for name, value in pairs.items():
            if re.fullmatch(f"--(.*_)?({pattern})", name):
                return value
        return default

    return find


def _right(rows: np.ndarray, width: int) -> np.ndarray:
    return np.pad(rows, [(0, 0), (0, width - rows.shape[1])])
