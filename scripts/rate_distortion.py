"""Trains a VAE at several weights of the KL and draws rate against distortion:

python scripts/rate_distortion.py --config configs/smoke/vae.yaml --betas 0.05,0.3,1

Each beta has a run of its own under the workdir, which goes on where it stopped. Further options
are laid over the config. Writes rate_distortion.json and rate_distortion.png into the workdir.
"""

import argparse
import json
from pathlib import Path

from jaxgraph import config as configs
from jaxgraph import errors, report_table, runs

BETAS = "0.01,0.05,0.1,0.2,0.35,0.5,0.7,1"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, required=True, help="config of each run")
    parser.add_argument("--betas", type=_numbers, default=BETAS, help=f"weights ({BETAS})")
    parser.add_argument("--workdir", type=Path, help="folder of the runs; the config's by default")
    parser.add_argument("--split", default="test", choices=["validation", "test"])
    options, overrides = parser.parse_known_args(argv)
    base = configs.load(["--config", str(options.config), *overrides])
    if base.system != "vae" or base.task.model.likelihood.kind != "mixture":
        raise errors.UserError(
            f"--config: {options.config} trains no VAE on noisy bits; allowed: system vae with the "
            "likelihood 'mixture', for which the least distortion is known"
        )
    folder = options.workdir or Path(base.workdir)
    points = []
    for beta in options.betas:
        config = configs.load([
            "--config", str(options.config), *overrides, "--task.objective.beta", str(beta),
            "--workdir", str(folder / f"beta-{beta:g}"),
        ])  # fmt: skip
        points.append({"beta": beta} | _point(config, options.split))
        print(report_table.to_text({f"beta {beta:g}, {options.split} split": points[-1]}))

    from jaxgraph.plots.figure import to_png
    from jaxgraph.plots.vae.rate_distortion import rate_distortion

    (folder / "rate_distortion.json").write_text(json.dumps(points, indent=1), encoding="utf-8")
    title = f"Rate and distortion, {base.task.data.bits}-bit numbers"
    (folder / "rate_distortion.png").write_bytes(to_png(lambda: rate_distortion(points), title))
    print(report_table.to_text({"all": points}))
    print(folder / "rate_distortion.png")


def _point(config: configs.Config, split: str) -> dict:
    runs.claim(config)

    from jaxgraph.systems import make_task
    from jaxgraph.train import loop, parallel
    from jaxgraph.vae.rate_distortion import measure

    workdir = Path(config.workdir)
    if config.train.compile_cache:
        parallel.use_compile_cache(workdir.absolute().parent / ".compiled")
    task = make_task(config)
    result = loop.fit(
        task, config.train, workdir, parallel=config.parallel, seed=config.seed,
        resolved=configs.to_dict(config),
    )
    if result.stopped:
        raise errors.UserError(f"{workdir}: stopped by {result.stopped}; the same command goes on")
    return measure(task.model, result.state.params, task.source, split, config.seed).to_dict()


def _numbers(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if not all(value >= 0 for value in values):
        raise ValueError(text)
    return values


if __name__ == "__main__":
    errors.run(main)
