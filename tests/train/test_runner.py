"""What a runner says of its devices, and how it traces steps."""

import jax
import jax.numpy as jnp
import pytest

from jaxgraph.train.config import Parallel
from jaxgraph.train.runner import gpu_memory, make_runner, traced
from tests.train import toy


@pytest.mark.parametrize(
    "asked, found", [("default", "HIGHEST"), ("tensorfloat32", "HIGH"), ("float32", "HIGHEST")]
)
def test_products_have_the_precision_that_is_asked_for(asked, found):
    """The tests' own default is the highest."""
    program = jax.make_jaxpr(traced(lambda x: x @ x, asked))(jnp.ones((2, 2)))
    (product,) = [e for e in program.eqns if e.primitive.name == "dot_general"]
    assert {precision.name for precision in product.params["precision"]} == {found}


def test_a_run_says_what_it_runs_on(monkeypatch):
    lines = list(make_runner(toy.Toy(), Parallel(data=4), rows=8).describe())
    assert lines[0].startswith("devices: 4 x") and lines[0].endswith("data 4, by mesh")
    assert "MB on each device" in lines[-1]
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".9")
    assert gpu_memory().startswith(".9 of each GPU")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert "as needed" in gpu_memory()
