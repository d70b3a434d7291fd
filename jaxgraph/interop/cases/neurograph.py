"""Golden cases of NeuroGraph: which kind a file is, and who recomputes it.

What the entries mean stands in the README of the cases. They have no `config` and no prefix for
results: what is not known as given counts as expected.
"""

from collections.abc import Callable

from jaxgraph.interop.case import Case, Checks
from jaxgraph.interop.cases import (
    neurograph_forward,
    neurograph_graph,
    neurograph_misc,
    neurograph_tables,
    neurograph_train,
)

HANDLERS: dict[str, Callable[[Case, Checks], None]] = {
    "buf_phase_cos_table": neurograph_tables.check,
    "graph_seed": neurograph_graph.check,
    "traj_loss": neurograph_train.check,
    "adp_x": neurograph_misc.check,
}
"""By an entry that only such a case has; traces are known by the ends of their names."""


def recognises(case: Case) -> bool:
    return not case.meta and _handler(case) is not None


def check(case: Case, checks: Checks) -> None:
    """Recomputes a case."""
    checks.expects = ("",)
    _handler(case)(case, checks)


def _handler(case: Case) -> Callable[[Case, Checks], None] | None:
    named = next((do for name, do in HANDLERS.items() if name in case.arrays), None)
    return named or (neurograph_forward.check if neurograph_forward.prefixes(case) else None)
