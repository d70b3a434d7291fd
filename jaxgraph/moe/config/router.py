"""Options of the router that sends each token to a few experts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from jaxgraph.fields import Count, Fraction, NonNegative


@dataclass(frozen=True)
class Router:
    """Choice of experts per token; the seeds have none, and all their experts serve all tokens.

    It takes the place of the mean over experts: mode `gnn`, or `ghost` with coupling `none`, where
    awake ghosts compete by their level. The hypergraph couples all experts of a token, so it and a
    router exclude each other. Turns of `geometric_routed` stay in front of every expert; the router
    reads what comes before them.
    """

    top_k: Count = 0
    """Experts that serve a token; 0 turns the router off. All of them give a plain softmax mean."""
    balance_weight: NonNegative = 0.01
    """Factor, a layer, of the loss that keeps loads even."""
    z_weight: NonNegative = 0.001
    """Factor, a layer, of the loss that keeps the router's logits small."""
    implementation: Literal["auto", "dense", "grouped"] = "auto"
    """`dense`: all experts on all tokens, weighted. `grouped`: only what serving experts need (mode
    `gnn` without turns); dropout draws other numbers. `auto`: `grouped` where that was measured
    faster: on CPUs if at most half (in evaluation a quarter) of the experts serve a token."""
    collapse: Fraction = 0.1
    """A layer counts as collapsed when an expert gets less than this part of its fair share."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.top_k == 1:
            yield "top_k", (
                "1 leaves the router without gradient, for a token's only gate is always 1; "
                "allowed: 0, or 2 to model.num_experts"
            )

    def conflicts(self, model: Any) -> Iterator[tuple[str, str]]:
        """What does not go together with the rest of a `Model`."""
        if not self.top_k:
            return
        if self.top_k > model.num_experts:
            yield "router.top_k", (
                f"{self.top_k} of {model.num_experts} experts; allowed: 0, or 2 to num_experts"
            )
        if model.coupled:
            yield "router.top_k", (
                f"{self.top_k} in mode {model.mode!r}, whose hypergraph couples all experts of a "
                "token; allowed: 0, mode 'gnn', or mode 'ghost' with coupling 'none'"
            )
        if model.train_mode == "geometric":
            yield "router.top_k", (
                f"{self.top_k} with train_mode 'geometric', which gives each presentation to all "
                "experts; allowed: 0, or another train_mode"
            )
        ghosts = model.ghosts
        if ghosts.count and "original" in (ghosts.statistic, ghosts.mixing):
            yield "router.top_k", (
                f"{self.top_k} with the seed's ghosts, defined by the plain mean over experts; "
                "allowed: 0, or ghosts.statistic 'residual' and ghosts.mixing 'active'"
            )
        if self.implementation == "grouped" and not self.can_group(model):
            yield "router.implementation", (
                "'grouped' leaves out what ghosts, losses between experts and turns need: every "
                "expert on every token; allowed: 'dense', 'auto', or mode 'gnn' with a train_mode "
                "other than 'geometric_routed'"
            )

    def can_group(self, model: Any) -> bool:
        """Whether nothing in the model needs experts on tokens that they do not serve."""
        return model.mode == "gnn" and not model.routed
