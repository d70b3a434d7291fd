"""Compiling a parity case costs fifty times what running it does."""

import jax
import pytest


@pytest.fixture(autouse=True)
def compile_quickly():
    """Less optimised programs in these tests; the command, run by one of them, compiles as ever."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
