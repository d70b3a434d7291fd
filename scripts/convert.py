"""Converts weights between the originals' PyTorch checkpoints and ours, strictly both ways.

  python scripts/convert.py to-jax   IN.pt  OUT_DIR   params.safetensors and config.yaml
  python scripts/convert.py to-torch IN     OUT.pt    IN: such a folder or file, or a run's folder

A .pt file is read with weights_only=True: tensors and plain values, never code. Nothing is guessed:
missing, unexpected and misshapen tensors are listed and nothing is written. Works for `moe`.
"""

import argparse
from pathlib import Path

from jaxgraph.errors import run


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("direction", choices=DIRECTIONS)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args(argv)
    print(DIRECTIONS[args.direction](args.source, args.target))


# The functions import late, so that --help is quick.
def convert_to_jax(source: Path, target: Path) -> str:
    from jaxgraph.interop.rules.moe import RULES, read_checkpoint
    from jaxgraph.interop.torch import to_jax
    from jaxgraph.interop.weights import save_weights, shapes_of

    stored = read_checkpoint(source)
    params = to_jax(stored.tensors, shapes_of(stored.model), RULES)
    save_weights(target, params, stored.model)
    return f"{len(stored.tensors)} tensors of {source} (read with weights_only) -> {target}"


def convert_to_torch(source: Path, target: Path) -> str:
    from jaxgraph.interop.rules.moe import RULES
    from jaxgraph.interop.rules.moe_config import config_to_torch
    from jaxgraph.interop.torch import save_pt, to_torch
    from jaxgraph.interop.weights import load_weights

    params, model = load_weights(source)
    config = config_to_torch(model)
    tensors = to_torch(params, RULES)
    # What the original's loader asks for besides.
    save_pt(target, tensors, config=config, epoch=0, step=0, best_eval_loss=float("inf"))
    return f"{source} -> {len(tensors)} tensors in {target}"


DIRECTIONS = {"to-jax": convert_to_jax, "to-torch": convert_to_torch}

if __name__ == "__main__":
    run(main)
