"""Sizes of the layers (spec/vae.md, section 2)."""

from typing import NamedTuple

from jaxgraph.vae.config import Model


class Widths(NamedTuple):
    """Sizes of a model; of a complex one, counted in complex numbers."""

    encoder: tuple[int, ...]
    """Of the encoder's trunk; may be empty."""
    latent: int
    decoder: tuple[int, ...]
    """Of the decoder's trunk, which is no mirror image: it begins with the latent size and leaves
    the encoder's first width out."""


def layer_widths(inputs: int, num_layers: int, max_width: int, smallest: int) -> tuple[int, ...]:
    """Widths that fall linearly from `inputs` to the latent size, which comes last.

    Neighbours are never equal; rounding is half to even, on float64.
    """
    latent = max(smallest, inputs // (num_layers + 1))
    widths: list[int] = []
    for i in range(1, num_layers + 1):
        t = i / (num_layers + 1)
        width = round(inputs * (1.0 - t) + latent * t)
        width = max(smallest, min(max(smallest, max_width), width))
        if not widths or width != widths[-1]:
            widths.append(width)
    if not widths or widths[-1] != latent:
        widths.append(latent)
    return tuple(widths)


def model_widths(model: Model) -> Widths:
    """Sizes of a model whose `inputs` are known."""
    smallest = 1 if model.kind == "free_bits" else 2
    widths = layer_widths(model.inputs, model.num_layers, model.max_width, smallest)
    return Widths(widths[:-1], widths[-1], widths[::-1][:-1])
