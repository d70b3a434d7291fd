"""Eight fake CPU devices, exact matmuls, no silent broadcasting: before JAX starts."""

import os
import tempfile

# Compiling is most of the suite's time; LLVM's optimiser would double it.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

import jax  # noqa: E402

# Tests build the same steps again and again: each is compiled once a run of the suite.
COMPILED = tempfile.TemporaryDirectory(prefix="jaxgraph-tests-")
jax.config.update("jax_compilation_cache_dir", COMPILED.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
