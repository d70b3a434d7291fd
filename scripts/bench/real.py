"""Steps of real configs on GPUs: time, items a second, share of the peak, memory.

    python scripts/benchmark.py gpu [--configs configs/moe.yaml,...] [--steps N] [--json FILE]

Each config runs in a process of its own, on data that must have been fetched. Further options are
laid over all of them, such as --parallel.fsdp true or --task.data.batch_size 256.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.rates import matmul_flops, utilisation
from jaxgraph.errors import UserError

CONFIGS = ("moe", "moe_geometric", "moe_topk", "vae_rm0", "neurograph", "latentwire_smollm2")
FORMULA = (
    "share of peak = matrix FLOPs in the program of a step (each loop times its trip count, "
    "sleeping ghosts left out, recomputation included) / time of a step / peak of all its devices"
)
HEAD = "config                      step ms     items/s   share of peak   peak MB   compile s"
REPEATS = 7


def main(argv: list[str]) -> int:
    """Exit code 0: every config was measured; 1: one failed."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py gpu", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    real = ",".join(f"configs/{name}.yaml" for name in CONFIGS)
    parser.add_argument("--configs", default=real, help="files, with commas between (%(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="of a measurement (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    args, overrides = parser.parse_known_args(argv)
    if args.steps < 1:
        raise UserError(f"--steps: got {args.steps}; allowed: at least 1")
    require_gpu()
    print(HEAD, flush=True)
    rows = []
    for path in args.configs.split(","):
        command = [sys.executable, "-m", "bench.real", path, str(args.steps), *overrides]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            rows.append({"config": path, "error": f"ended with exit code {done.returncode}"})
        else:
            rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(as_line(rows[-1]), flush=True)
        if args.json:
            args.json.write_text(json.dumps({"formula": FORMULA, "rows": rows}, indent=1) + "\n")
    print(FORMULA)
    return int(any("error" in row for row in rows))


def require_gpu() -> None:
    """In a process of its own: this one must not take the GPU's memory.

    Raises:
      UserError: JAX sees no GPU.
    """
    ask = "import jax; print(jax.default_backend())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    backend = done.stdout.strip() or "nothing"
    if backend != "gpu":
        raise UserError(
            f"no GPU: JAX sees {backend} here; install jaxgraph[cuda] on a machine with one. "
            "`make bench` measures on CPUs"
        )


def measure(path: str, steps: int, overrides: list[str]) -> dict[str, Any]:
    """One config's row."""
    import jax

    from jaxgraph import config as configs
    from jaxgraph.systems import make_task
    from jaxgraph.train.loop import on_devices
    from jaxgraph.train.runner import make_runner

    config = configs.load(["--config", path, *overrides])
    task, calls = make_task(config), config.train.steps_per_call
    batches = task.batches("train")
    rows = len(jax.tree.leaves(batches[0])[0])
    precision = config.train.matmul_precision
    runner = make_runner(task, config.parallel, rows=rows, calls=calls, precision=precision)
    state = runner.init(config.seed)
    # Batches by length have programs of their own, one a group, in turns.
    groups = getattr(config.task.data, "buckets", 1)
    steps = -(-steps // (groups * calls)) * groups * calls
    batch = jax.tree.map(jax.numpy.asarray, batches[0])
    program = jax.make_jaxpr(task.train_step)(state, runner.frozen, batch)
    with on_devices(batches, calls, runner) as source:
        begun = time.perf_counter()
        for _ in range(groups):
            state, metrics = jax.block_until_ready(runner.step(state, runner.frozen, next(source)))
        compiling = time.perf_counter() - begun
        items = float(jax.numpy.ravel(metrics["items"])[0]) if "items" in metrics else float(rows)
        times = []
        for _ in range(REPEATS):
            begun, done = time.perf_counter(), 0
            while done < steps:
                state, metrics = runner.step(state, runner.frozen, next(source))
                done += calls
            jax.block_until_ready(metrics)
            times.append((time.perf_counter() - begun) / done * 1000)
    ms, device = statistics.median(times), runner.mesh.devices.flat[0]
    flops = share = None
    if groups == 1:
        try:
            flops = matmul_flops(program.jaxpr, min)
            per_device = flops / runner.mesh.size
            share = utilisation(device.device_kind, dtype_of(config), per_device, ms)
        except ValueError:  # a loop that nobody can count
            flops = share = None
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "config": path, "devices": f"{runner.mesh.size} x {device.device_kind}", "step_ms": ms,
        "items_per_second": items / ms * 1000, "step_tflop": flops and flops / 1e12, "mfu": share,
        "peak_mb": memory and memory / 1e6, "compile_s": compiling,
    }  # fmt: skip


def dtype_of(config: Any) -> str:
    """Type of the matrix products, by what the system calls it."""
    for room in ("model", "compute"):
        found = getattr(getattr(config.task, room, None), "dtype", None)
        if found:
            return found
    return "float32"


def as_line(row: dict[str, Any]) -> str:
    name = Path(row["config"]).stem
    if "error" in row:
        return f"{name:<26} {row['error']}"
    share = "-" if row["mfu"] is None else f"{row['mfu']:.1%}"
    memory = "-" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f}"
    return (
        f"{name:<24} {row['step_ms']:>10.3f} {row['items_per_second']:>11,.0f} {share:>15} "
        f"{memory:>9} {row['compile_s']:>11.1f}"
    )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
