"""What `scripts/benchmark.py` is made of: rows, a pair of processes, and the two sides of it.

`ours` and `reference` run as processes of their own; nothing else here imports JAX or PyTorch.
"""
