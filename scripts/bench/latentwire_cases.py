"""What is measured of LatentWire: a training step, the language model's part of it, decoding."""

import argparse
from dataclasses import dataclass
from typing import Any

from bench.arguments import count, many, one_of
from jaxgraph.lm.config import Architecture

WORKS = {
    "step": "a training step: encoder, adapter, frozen model, AdamW",
    "lm": "the losses and their gradient by the soft prompt",
    "decode": "a greedy token, prefill included; items are tokens",
}
REFERENCES = {
    "original": "2K + 3 passes of the language model, as the original",
    "one_pass": "one of the student and one of the teacher, as ours",
}


@dataclass(frozen=True)
class Sizes:
    """Sizes that are no options of the command."""

    width: int = 256
    layers: int = 6
    heads: int = 8
    bytes: int = 512
    slots: int = 32
    text: int = 128
    """Tokens that the teacher reads: 512 bytes are about so many."""
    answer: int = 8
    new_tokens: int = 64
    vocab: int = 8192
    lm_width: int = 256
    lm_layers: int = 10
    lm_ffn: int = 768


QUICK = Sizes(16, 1, 2, 12, 3, 6, 4, 3, 40, 16, 2, 24)


@dataclass(frozen=True)
class Row:
    """Everything that both processes must know of a row; travels as JSON."""

    work: str
    reference: str
    batch: int
    k: int
    threads: int
    sizes: Sizes
    lr: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    dtype: str = "float32"

    system = "latentwire"
    modules = ("bench.latentwire_ours", "bench.latentwire_reference")
    drift = 0.1
    unmatched = ""
    rival = None

    @property
    def name(self) -> str:
        return f"{self.work} {self.batch}" + f" {self.reference}" * (self.work != "decode")

    @property
    def trains(self) -> bool:
        return self.work == "step"

    @property
    def items(self) -> int:
        """Examples of a step, or tokens that all rows get at once."""
        return self.batch

    @property
    def lm(self) -> Architecture:
        """About 10 million parameters."""
        sizes = self.sizes
        return Architecture(
            vocab_size=sizes.vocab, width=sizes.lm_width, layers=sizes.lm_layers,
            heads=sizes.heads, kv_heads=sizes.heads // 2, head_width=sizes.lm_width // sizes.heads,
            ffn_width=sizes.lm_ffn, tied=True,
        )  # fmt: skip

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Row":
        return cls(**tree | {"sizes": Sizes(**tree["sizes"])})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    told = "; ".join(f"{name}: {what}" for name, what in WORKS.items())
    parser.add_argument("--works", type=many(one_of(WORKS)), help=f"{told} (all)")
    told = "; ".join(f"{name}: {what}" for name, what in REFERENCES.items())
    parser.add_argument("--references", type=many(one_of(REFERENCES)), help=f"{told} (both)")
    parser.add_argument("--batch", type=count, help="examples (8)")
    parser.add_argument("--k", type=count, help="answer tokens in K-token loss and distillation")


FULL = {
    "works": list(WORKS), "references": list(REFERENCES), "batch": 8, "k": 4, "repeats": 5,
}  # fmt: skip
SMALL = {"works": list(WORKS), "references": ["original"], "batch": 2, "k": 3}
"""What the command leaves open, and with `--quick`."""


def make_rows(args: argparse.Namespace) -> list[Row]:
    """The rows to measure; decoding is the same in both of the reference's ways."""
    fixed = {"batch": args.batch, "k": args.k, "threads": args.threads}
    fixed["sizes"] = QUICK if args.quick else Sizes()
    return [
        Row(work=work, reference=reference, **fixed)
        for work in args.works
        for reference in args.references[: 1 if work == "decode" else None]
    ]
