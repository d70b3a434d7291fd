"""Golden bytes, alignment losses and quantised wires of LatentWire."""

import jax.numpy as jnp
import numpy as np

from jaxgraph.interop.case import Case, Checks
from jaxgraph.latentwire.alignment import align, alignment_mse, manifold
from jaxgraph.latentwire.text import collate, to_bytes
from jaxgraph.latentwire.wire import quantise, wire_bytes


def check_bytes(case: Case, checks: Checks) -> None:
    """Ids and lengths of texts."""
    if "bytes/meta" not in case.arrays:
        return
    meta = case.meta_of("bytes")
    rows = [to_bytes(text, meta["max_bytes"]) for text in meta["texts"]]
    width = case["bytes/ids"].shape[1]
    checks.compare("bytes/ids", collate(rows, width)[0], "exact")
    checks.compare("bytes/lengths", [len(row) for row in rows], "exact")


def check_alignment(case: Case, checks: Checks) -> None:
    """The `aux` part: losses without their weights."""
    if "aux/pred" not in case.arrays:
        return
    names = ("pred", "target", "mask", "mu", "sd", "target_rms")
    pred, target, mask, mu, sd, rms = (jnp.asarray(case[f"aux/{name}"]) for name in names)
    seen, raw = mask != 0, jnp.sqrt(jnp.mean(jnp.square(pred)))
    every, first = jnp.ones_like(seen), (pred[:, :1], target[:, :1])
    values = {
        "alignment_mse_masked": alignment_mse(pred, target, seen),
        "alignment_mse": alignment_mse(pred, target, every),
        "manifold_stat": manifold(pred, mu, sd),
        "rms_raw_penalty": jnp.square(raw - rms),
        "scale_penalty_at_1p3": np.float32(np.square(1.3 - 1)),
        "latent_align_cosine": align("cosine", *first, every[:, :1]),
        "latent_align_mse": align("mse", *first, every[:, :1]),
        "latent_prefix_align_cosine": align("cosine", pred, target, every),
    }
    given = {f"aux/{name}" for name in (*names, "meta")}
    checks.expects += tuple(
        name for name in case.arrays if name.startswith("aux/") and name not in given
    )
    for name, value in values.items():
        checks.compare(f"aux/{name}", value, "lm_loss")


def check_quantised(case: Case, checks: Checks) -> None:
    """Rounded wires and what they cost."""
    if "quant/in" not in case.arrays:
        return
    z = jnp.asarray(case["quant/in"])
    costs = case.meta_of("quant").get("wire_metrics", {})
    for entry in (name for name in case.arrays if name.startswith("quant/out_")):
        name = entry.removeprefix("quant/out_")
        bits, group = (int(part[1:]) for part in name.split("_"))
        checks.expects += (entry,)
        checks.compare(entry, quantise(z, bits, group), "lm_value")
        if name in costs:
            examples, *shape = costs[name]["latent_shape"]
            numbers, theirs = int(np.prod(shape)), costs[name]["latent_bytes"]
            ours = [
                wire_bytes(numbers, 32, group, examples=examples),
                wire_bytes(numbers, 16, group, examples=examples),
                wire_bytes(numbers, bits, group, examples=examples),
            ]
            expected = [theirs["fp32"], theirs["fp16"], theirs["quantized_with_scales"]]
            checks.compare_with(f"quant/meta/{name}", ours, expected, "exact")
