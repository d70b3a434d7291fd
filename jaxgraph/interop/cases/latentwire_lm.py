"""Golden cases of LatentWire's frozen language models: passes, losses on their logits, decoding.

What the entries mean stands in the README of the cases; losses are in `latentwire_lm_losses.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import latentwire_lm_losses as losses
from jaxgraph.interop.cases.latentwire_lm_heads import check_heads
from jaxgraph.interop.cases.latentwire_lm_model import Golden, Wire, load_golden
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate

RESULTS = (
    "logits", "hidden_states", "tokens", "greedy", "ce", "n_tokens", "first_logits", "loss",
    "loss_aligned", "loss_embedding_replay", "loss_chunked", "tf_loss", "kce_K3", "grad_prefix",
    "grad_prefix_aligned", "grad_latents", "greedy_upstream",
)  # fmt: skip
"""Last parts of the names of expected results."""


def recognises(case: Case) -> bool:
    """Whether the case describes one language model; training runs name theirs ``lm_...``."""
    return "lm/meta" in case.arrays


def check(case: Case, checks: Checks) -> None:
    """Recomputes passes, losses and tokens of the model and of its key-value prefixes."""
    checks.expects = tuple(
        name for name in case.arrays
        if name.split("/")[-1] in RESULTS or name.startswith("la/grad/")
    )  # fmt: skip
    golden = load_golden(case)
    check_passes(case, checks, golden)
    losses.check_losses(case, checks, golden)
    check_heads(case, checks, golden)
    check_decoding(case, checks, golden)


def check_passes(case: Case, checks: Checks, golden: Golden) -> None:
    """Logits and hidden states."""
    if "forward/inputs_embeds" in case.arrays:
        out = golden.run(case["forward/inputs_embeds"])
        checks.compare("forward/logits", out.logits, "lm_value")
        checks.compare("forward/hidden_states", out.hidden_states, "lm_value")
    if "forward_ids/input_ids" in case.arrays:
        seen = case["forward_ids/mask"].astype(bool)
        out = golden.run(case["forward_ids/input_ids"], seen)
        # What the original computes for padding means nothing.
        ours = np.where(seen[..., None], out.logits, case["forward_ids/logits"])
        checks.compare("forward_ids/logits", ours, "lm_value")
    if "text/scaffold" in case.arrays:
        text = golden.text(case["text/scaffold"])
        checks.compare("text/logits", golden.run(*text).logits, "lm_value")
    for part in golden.parts("first"):
        meta = case.meta_of(part)
        anchor = golden.anchor if meta["anchor_token_text"] else ()
        wire = Wire(anchor, meta["append_bos_after_prefix"])
        last = golden.run(*golden.composed(wire)).logits[:, -1]
        checks.compare(f"{part}/logits", last, "lm_value")
        nll = losses.nll(last, golden.first_ids).mean()
        checks.compare(f"{part}/ce", nll, "lm_loss")


class Decoding(NamedTuple):
    """One golden decoding: its entry, what is fed, and when it ends."""

    entry: str
    inputs: Any
    steps: int
    stop_ids: tuple[int, ...]
    min_new_tokens: int = 0
    ban_stop_steps: int = 0
    past: Any = None


def check_decoding(case: Case, checks: Checks, golden: Golden) -> None:
    """Greedy tokens."""
    for one in decodings(case, golden):
        expected = case[one.entry]
        out = generate(
            golden.model,
            golden.params,
            jnp.asarray(one.inputs),
            sampling=Sampling(
                max_new_tokens=one.steps,
                min_new_tokens=one.min_new_tokens,
                ban_stop_steps=one.ban_stop_steps,
            ),
            stop_ids=one.stop_ids,
            pad_id=golden.pad_id,
            past=one.past,
        )
        tokens, lengths = jax.device_get((out.tokens, out.lengths))
        tokens = np.where(np.arange(one.steps)[None] < lengths[:, None], tokens, -1)
        checks.compare(one.entry, tokens[:, : max(expected.shape[1], lengths.max())], "exact")


def decodings(case: Case, golden: Golden) -> list[Decoding]:
    """All of a case."""
    found = []
    for part in golden.parts("greedy"):
        meta = case.meta_of(part)
        if f"{part}/prompt_ids" in case.arrays:
            inputs = case[f"{part}/prompt_ids"][None]
        else:
            wire = Wire(tuple(meta["anchor_ids"] or ()), meta["append_bos"])
            inputs = golden.composed(wire)[0]
        found.append(Decoding(
            f"{part}/tokens", inputs, meta["max_new_tokens"],
            tuple(meta.get("stop_ids", golden.stop_ids)),
            meta.get("min_new_tokens", 0), meta.get("eos_ban_steps", 0),
        ))  # fmt: skip
    if "deep/greedy" in case.arrays:
        inputs = golden.embed(np.tile(golden.anchor, (golden.batch, 1)))
        steps = case["deep/greedy"].shape[1]
        found.append(Decoding("deep/greedy", inputs, steps, golden.stop_ids, past=golden.deep))
    return found
