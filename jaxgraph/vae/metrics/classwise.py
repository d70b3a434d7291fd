"""Reconstruction and latent statistics of each class (spec/vae.md, section 11 d)."""

import numpy as np
from jaxtyping import Int, Real

DIFFERENCES = ((1, 2), (1, 0), (2, 0))


def classwise(
    nll: Real[np.ndarray, " n"],
    kl: Real[np.ndarray, " n"],
    x: Real[np.ndarray, "n d"],
    logits: Real[np.ndarray, "n d"],
    z: Real[np.ndarray, "n k"],
    labels: Int[np.ndarray, " n"],
) -> dict[str, float]:
    """Means over the rows of each class that is there, and differences of their `nll`.

    The original runs the model again for each class; here one forward serves all.

    Args:
      nll, kl: nats of each row.
      x: what the model saw.
      logits: of a bit being 1, as decoded.
      z: latent samples.
      labels: 0, 1, 2; anything else is passed over.

    Returns:
      For each class c: `nll_c`, `loglik_c`, `recon_mse_c`, `kl_c`, `n_c`, `z_norm_c`, and of the
      unbiased variances of z, where there are two rows, `z_cov_trace_c`, `z_var_min_c`,
      `z_var_max_c`, `z_cond_proxy_c`; `dnll_ij` is `nll` of class i minus that of class j.
    """
    nll, kl, x, logits, z = (a.astype(np.float64) for a in (nll, kl, x, logits, z))
    decoded = 0.5 * (1 + np.tanh(logits / 2))
    report: dict[str, float] = {}
    for label in (0, 1, 2):
        rows = labels == label
        if not rows.any():
            continue
        values = {
            "nll": nll[rows].mean(),
            "loglik": -nll[rows].mean(),
            "recon_mse": ((x[rows] - decoded[rows]) ** 2).mean(),
            "kl": kl[rows].mean(),
            "n": rows.sum(),
            "z_norm": np.linalg.norm(z[rows], axis=1).mean(),
        }
        if rows.sum() >= 2:
            spread = z[rows].var(0, ddof=1)
            values |= {
                "z_cov_trace": spread.sum(),
                "z_var_min": spread.min(),
                "z_var_max": spread.max(),
                "z_cond_proxy": spread.max() / (spread.min() + 1e-8),
            }
        report |= {f"{name}_c{label}": float(value) for name, value in values.items()}
    for i, j in DIFFERENCES:
        if f"nll_c{i}" in report and f"nll_c{j}" in report:
            report[f"dnll_{i}{j}"] = report[f"nll_c{i}"] - report[f"nll_c{j}"]
    return report
