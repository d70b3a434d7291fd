"""The rate-distortion plane: models trained with several weights of the KL, beside theory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from jaxgraph.plots.marks import legend, panels
from jaxgraph.plots.style import PALETTE


def rate_distortion(points: Sequence[dict[str, Any]]) -> Canvas:
    """Left: distortion over rate, and the least there can be. Right: what each beta costs.

    Args:
      points: `beta` and the fields of `jaxgraph.vae.rate_distortion.Point`, one beta at least.
    """
    points = sorted(points, key=lambda point: point["rate"])
    column = lambda name: np.array([point[name] for point in points])  # noqa: E731
    rate, distortion, least = column("rate"), column("distortion"), column("least")
    canvas, (plane, cost) = panels(2, columns=2, size=(5.4, 3.6))
    # At rate 0 the line is where any point has it, moved along its slope of -1.
    top = float((least + rate)[0])
    reach = max(float(rate[-1]) * 1.05, 1.0)
    ends = np.array([0.0, reach])
    plane.plot(ends, top - ends, "--", color="#555555", label="least for fair bits")
    plane.plot(rate, distortion, "o-", color=PALETTE[0], markersize=4, label="trained models")
    for point in points:
        plane.annotate(
            f"{point['beta']:g}", (point["rate"], point["distortion"]), (4, 5),
            textcoords="offset points", fontsize=7,
        )  # fmt: skip
    plane.set_xlabel("rate: mean KL (nats)")
    plane.set_ylabel("distortion: -log p(x | z) (nats)")
    plane.set_title("each point bears its beta")
    plane.legend(loc="lower left")
    points.sort(key=lambda point: point["beta"])
    rate, distortion, betas = column("rate"), column("distortion"), column("beta")
    cost.errorbar(
        betas, rate + distortion - top, yerr=1.96 * column("error"), fmt="o-", markersize=4,
        capsize=2, color=PALETTE[1], label="rate + distortion",
    )  # fmt: skip
    cost.plot(betas, rate, "s:", markersize=3, color=PALETTE[2], label="rate")
    cost.axhline(0, linestyle="--", linewidth=1.1, color="#555555", label="best possible")
    cost.set_xlabel("beta")
    cost.set_ylabel("nats above the optimum at beta 1")
    if betas.min() > 0 and betas.max() > 10 * betas.min():
        cost.set_xscale("log")
        cost.xaxis.set_major_formatter("{x:g}")
    legend(cost)
    return canvas
