"""Hypergraph convolution written as the loops of its definition: the slow twin of our matrices."""

import numpy as np


def convolve(features, edges, theta, bias, weights=None):
    """D⁻¹ H W B⁻¹ Hᵀ X Θ + bias for the nodes of one token, edge by edge and node by node.

    Args:
      features: `[n, d]`.
      edges: for each hyperedge the nodes in it.
      theta: `[d, d]`, applied from the right.
      weights: one for each edge; all 1 if None. The node degrees are their sums.
    """
    weights = np.ones(len(edges)) if weights is None else weights
    messages = []
    for edge in edges:
        mean = np.zeros(theta.shape[1])
        for node in edge:
            mean += features[node] @ theta / len(edge)
        messages.append(mean)
    out = np.zeros((len(features), theta.shape[1]))
    for node in range(len(features)):
        degree = sum(w for w, edge in zip(weights, edges, strict=True) if node in edge)
        for weight, edge, message in zip(weights, edges, messages, strict=True):
            if node in edge:
                out[node] += weight * message / degree
        out[node] += bias
    return out


def convolve_batch(features, edges, theta, bias, weights=None):
    """The same for `[b, t, n, d]`, token by token."""
    out = np.zeros(features.shape[:-1] + (theta.shape[1],))
    for b in range(features.shape[0]):
        for t in range(features.shape[1]):
            out[b, t] = convolve(features[b, t], edges, theta, bias, weights)
    return out
