"""The learning mode: NeuroGraph with a pair of indices on every edge.

Adding phases and adding logarithms of magnitudes is multiplying, so a pair on an edge is a weight,
and a node that sums its messages is a neuron; all of it by lookup in tables of whole numbers.
Signals are fixed-point numbers held in float32, whose sums stay below 2^24 and are therefore exact
in any order: `jaxgraph.neurograph.export` computes the same with integers alone.

Words: *unit* is the last binary digit of a fixed-point number; *offset* is a fictive shift of an
index by a fraction of a bin, always zero, by which gradients are taken.
"""
