"""Converts weights between the originals' PyTorch checkpoints and ours, strictly both ways.

  python scripts/convert.py to-jax   IN.pt  OUT_DIR   params.safetensors and config.yaml
  python scripts/convert.py to-torch IN     OUT.pt    IN: such a folder or file, or a run's folder
  python scripts/convert.py neurograph --integer RUN OUT.npz    a trained graph as integers alone

A .pt file is read with weights_only=True: tensors and plain values, never code. Nothing is guessed:
missing, unexpected and misshapen tensors are listed and nothing is written. Works for `moe`, `vae`,
and `latentwire`, whose checkpoints are folders: IN and OUT are then folders of .pt files.
"""

import argparse
from pathlib import Path

from jaxgraph.errors import UserError, run


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("direction", choices=DIRECTIONS)
    parser.add_argument("--integer", action="store_true", help="of neurograph: indices and tables")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args(argv)
    if args.integer != (args.direction == "neurograph"):
        parser.error("neurograph goes with --integer, and nothing else does")
    print(DIRECTIONS[args.direction](args.source, args.target))


# The functions import late, so that --help is quick.
def convert_to_jax(source: Path, target: Path) -> str:
    from jaxgraph.interop.exchange import EXCHANGES
    from jaxgraph.interop.torch import load_pt
    from jaxgraph.interop.weights import save_weights

    if source.is_dir():
        from jaxgraph.interop.exchange.latentwire import to_jax_folder

        to_jax_folder(source, target)
        return f"{source} (latentwire, read with weights_only) -> {target}"
    content = load_pt(source)
    system = next((name for name, x in EXCHANGES.items() if x.recognises(content)), None)
    if system is None:
        names = ", ".join(map(str, content))
        raise UserError(f"{source} is no checkpoint of {' or '.join(EXCHANGES)}: it holds {names}")
    params, task = EXCHANGES[system].read(source)
    save_weights(target, params, system, task)
    return f"{source} ({system}, read with weights_only) -> {target}"


def convert_to_torch(source: Path, target: Path) -> str:
    from jaxgraph.interop.exchange import EXCHANGES
    from jaxgraph.interop.weights import load_weights

    if system_of(source) == "latentwire":
        from jaxgraph.interop.exchange.latentwire import to_torch_folder

        note = to_torch_folder(source, target)
        return f"{source} (latentwire) -> {target}{note}"
    params, system, task = load_weights(source)
    EXCHANGES[system].write(target, params, task)
    return f"{source} ({system}) -> {target}"


def convert_to_integers(source: Path, target: Path) -> str:
    from jaxgraph import runs
    from jaxgraph.neurograph.export import write_model

    run = runs.open_run(source)
    if run.config.system != "neurograph" or run.config.task.mode != "learning":
        raise UserError(f"{source} is a run of {run.config.system}; allowed: neurograph, learning")
    from jaxgraph.neurograph.learning.integers import to_integer_model

    size = write_model(target, to_integer_model(run.task.inner.network, run.state.params))
    return (
        f"{source}, step {run.step} -> {target}: {size:,} bytes; "
        "jaxgraph.neurograph.export.read_model needs NumPy alone"
    )


def system_of(source: Path) -> str | None:
    """The system that the config beside some weights names."""
    import yaml

    path = (source if source.is_dir() else source.parent) / "config.yaml"
    return (yaml.safe_load(path.read_text()) or {}).get("system") if path.exists() else None


DIRECTIONS = {
    "to-jax": convert_to_jax, "to-torch": convert_to_torch, "neurograph": convert_to_integers,
}

if __name__ == "__main__":
    run(main)
