"""Parameters of one linear map, for pure functions to use."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float


class Linear(nn.Module):
    """Kernel and bias of any shape."""

    kernel_init: Any
    kernel_shape: tuple[int, ...]
    bias_shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        kernel = self.param("kernel", self.kernel_init, self.kernel_shape)
        return kernel, self.param("bias", nn.initializers.zeros, self.bias_shape)
