"""Our own PyTorch versions of the originals: small, obvious, and with the original's key names.

They stand for the originals in tests and benchmarks, where the golden cases have too few sizes.
"""
