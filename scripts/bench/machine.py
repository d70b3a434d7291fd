"""The machine a benchmark ran on."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any


def describe(threads: int) -> dict[str, Any]:
    """What a reader needs to judge the numbers; the load is of now, before the first row."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("jax", "jaxlib", "flax", "torch")},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "").strip(),
    }


def as_line(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {text or '-'}" for name, text in machine["versions"].items())
    load = " ".join(map(str, machine["load_average"]))
    flags = f"; XLA_FLAGS {machine['XLA_FLAGS']}" if machine["XLA_FLAGS"] else ""
    return (
        f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores usable; "
        f"{machine['threads']} threads a side; {versions}; load average {load}{flags}"
    )


def version(package: str) -> str | None:
    """Installed version, without importing it: that would take seconds and memory."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
