"""Eight fake CPU devices, exact matmuls, no silent broadcasting: before JAX starts."""

import gc
import os
import tempfile
from importlib.metadata import version

# Compiling is most of the suite's time: LLVM's optimiser would double it, and the newer emitter of
# fused loops takes three to four times as long as the older one, which jaxlib 0.11 no longer has.
# Programs that tests start inherit the flags, and the folder of what was compiled before.
FLAGS = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()

# Tests build the same steps again and again: each is compiled once a run of the suite. The process
# that hands tests to workers comes here first, and they inherit its folder.
if "PYTEST_XDIST_WORKER" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="jaxgraph-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402

# Programs and their traces are millions of objects that live on; looking through them all takes
# Python's collector longer the later a test comes.
gc.set_threshold(50_000, 20, 20)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
