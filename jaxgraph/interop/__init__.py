"""Exchange with the outside: PyTorch checkpoints, safetensors, and golden cases of the originals.

Imports the systems; only scripts and tests import it. PyTorch is imported inside the functions
that need it, so that parity on `.npz` files works without it.
"""
