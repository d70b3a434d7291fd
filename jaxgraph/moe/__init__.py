"""Geometric mixture of experts with ghosts: a decoder-only language model.

Words of this system:
  expert: a whole pre-norm transformer block (attention and FFN); every expert reads every token.
  ghost: an expert that sleeps (level 0, no computation) until the primary experts saturate, then
    ramps up to level 1.
  saturation: how little of what a layer should add lies in the reach of its experts' updates.
  hyperedge: a set of experts that exchange features, token by token.

Source: the seed system GNN-MoE-2 (spec/moe.md); deviations are listed in docs/parity.md.
"""
