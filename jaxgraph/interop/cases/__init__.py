"""One module a system: how to recompute the golden cases of its original."""
