"""What our sides share: JAX's device and its memory."""

import jax

from bench import worker


class JaxSide:
    """Commands of `bench.pair` that do not depend on the system."""

    def hello(self) -> dict:
        device = jax.devices()[0]
        return {"backend": device.platform, "device": device.device_kind}

    def peak_mb(self) -> float:
        """Largest memory so far: of the device, or resident on a CPU."""
        memory = jax.devices()[0].memory_stats() if jax.default_backend() == "gpu" else None
        return memory["peak_bytes_in_use"] / 2**20 if memory else worker.peak_mb()
