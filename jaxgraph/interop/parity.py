"""Recomputes golden cases of the originals and says how far we are from them."""

from collections.abc import Iterable, Sequence

import jax

from jaxgraph.errors import UserError
from jaxgraph.interop.case import Case, Checks, load_case
from jaxgraph.interop.cases import (
    latentwire,
    latentwire_lm,
    latentwire_text,
    latentwire_train,
    moe,
    neurograph,
    vae,
)

SYSTEMS = (moe, vae, neurograph, latentwire_lm, latentwire_train, latentwire_text, latentwire)
"""Modules with `recognises(case)` and `check(case, checks)`, asked in this order."""


def check_case(case: Case) -> Checks:
    """Recomputes everything we know in a case."""
    checks = Checks(case)
    for system in SYSTEMS:
        if system.recognises(case):
            # Accelerators round matmuls by default, which no tolerance here allows for.
            with jax.default_matmul_precision("highest"):
                system.check(case, checks)
            return checks
    raise UserError(f"no system of ours knows the format of {case.path}")


def check_files(paths: Sequence[str]) -> list[Checks]:
    """Reads all files, then checks all: a damaged one is told before anything is computed."""
    cases = [load_case(path) for path in paths]
    return [check_case(case) for case in cases]


def as_table(results: Iterable[Checks]) -> str:
    """What a person reads."""
    lines = []
    for checks in results:
        lines.append(f"{checks.case.path}: {'ok' if checks.ok else 'FAILED'}")
        width = max([len(row.name) for row in checks.rows], default=8)
        lines.append(f"  {'quantity':{width}}  max abs   max rel   tolerance  verdict")
        for row in checks.rows:
            lines.append(
                f"  {row.name:{width}}  {row.max_abs:8.2e}  {row.max_rel:8.2e}  "
                f"{row.tol:9.0e}  {'ok' if row.ok else 'FAILED'}"
            )
        if not checks.rows:
            lines.append("  nothing of this case could be checked")
        lines += [f"  not checked: {name}" for name in checks.unchecked]
    return "\n".join(lines)
