"""NeuroGraph: a graph whose parameters are pairs of integers, read through lookup tables.

Words of this system:
  phase, magnitude: the two integer indices of a dimension; a *bin* is one step of an index.
  signal: cos(phase) * exp(sin(magnitude)), by lookup.
  cell: adds the indices of an arriving context to those of a node, modulo the bins.
  strength: sum of a signal over its dimensions; a message of strength 0 or less is dropped.
  static edge: an edge of the graph. radiation: edges to the nodes whose phases fit a context best,
    chosen anew in each timestep.
  activation: a node's running indices and strength; it decays, and is pruned below a threshold.
  class code: the indices whose signal stands for a class.

Source: the seed system NeuroGraph (spec/neurograph.md); deviations are listed in docs/parity.md.
"""
