"""The variational autoencoder: an encoder to a diagonal Gaussian, a decoder to logits."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxgraph.vae.config import Model
from jaxgraph.vae.layers import ComplexLayer, RealLayer, dense
from jaxgraph.vae.widths import model_widths


class Posterior(NamedTuple):
    """Diagonal Gaussian of each row's latents; of a complex model [real | imaginary]."""

    mu: Any
    """[b, z]"""
    logvar: Any
    """[b, z]"""

    def sample(self, noise: Float[Array, "b z"]) -> Float[Array, "b z"]:
        return self.mu + jnp.exp(0.5 * self.logvar) * noise


class Output(struct.PyTreeNode):
    """What `MixtureVae` returns."""

    mu: Any
    """[b, z]"""
    logvar: Any
    """[b, z]"""
    z: Any
    """[b, z]: sampled latents."""
    logits: Any
    """[b, d]: log odds of each bit."""


class Trunk(nn.Module):
    """Layers one behind the other; the real and the complex kind have the same interface."""

    config: Model
    inputs: int
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b n"], train: bool) -> Float[Array, "b m"]:
        config, inputs = self.config, self.inputs
        options = {"activation": config.activation, "dropout": config.dropout}
        if config.kind == "complex":
            # One vector has no imaginary part yet, two are [real | imaginary].
            x = x.reshape(len(x), -1, inputs)
            for i, width in enumerate(self.widths):
                x = ComplexLayer(inputs, width, **options, name=f"layer_{i}")(x, train)
                inputs = width
            x = jnp.pad(x, ((0, 0), (0, 2 - x.shape[1]), (0, 0)))
            return x.reshape(len(x), -1)
        for i, width in enumerate(self.widths):
            layer = RealLayer(
                inputs, width, layernorm=config.layernorm, **options, name=f"layer_{i}"
            )
            x, inputs = layer(x, train), width
        return x


class MixtureVae(nn.Module):
    """Real or complex VAE of the seed system n0px (spec/vae.md, sections 3 to 6)."""

    config: Model

    @property
    def latents(self) -> int:
        """Real coordinates of a latent vector."""
        return model_widths(self.config).latent * self._parts

    @property
    def _parts(self) -> int:
        return 2 if self.config.kind == "complex" else 1

    def setup(self):
        config, widths = self.config, model_widths(self.config)
        parts, latent = self._parts, widths.latent
        self.encoder = Trunk(config, config.inputs, widths.encoder, name="encoder")
        last = parts * (widths.encoder or (config.inputs,))[-1]
        self.encoder_head = dense(last, 2 * parts * latent, "encoder_head")
        self.decoder = Trunk(config, latent, widths.decoder, name="decoder")
        last = parts * (widths.decoder or (latent,))[-1]
        self.decoder_head = dense(last, config.inputs, "decoder_head")
        if config.prior.kind == "mixture":
            shape = config.prior.components, config.inputs
            self.pseudo_inputs = self.param("pseudo_inputs", nn.initializers.normal(1.0), shape)

    def __call__(
        self,
        x: Float[Array, "b d"],
        noise: Float[Array, "b z"] | None = None,
        *,
        train: bool = False,
    ) -> Output:
        """Encodes, samples and decodes.

        Args:
          noise: standard normal draws; None draws them from the rng `latents`.
          train: dropout on (needs the rng `dropout`).
        """
        posterior = self.encode(x, train=train)
        if noise is None:
            shape = posterior.mu.shape
            noise = jax.random.normal(self.make_rng("latents"), shape, posterior.mu.dtype)
        z = posterior.sample(noise)
        return Output(posterior.mu, posterior.logvar, z, self.decode(z, train=train))

    def encode(self, x: Float[Array, "b d"], *, train: bool = False) -> Posterior:
        """The posterior of each row."""
        if x.shape[-1] != self.config.inputs:
            raise ValueError(
                f"rows of {x.shape[-1]} coordinates; the model has {self.config.inputs} inputs"
            )
        statistics = self.encoder_head(self.encoder(x, train))
        mu, logvar = jnp.split(statistics, 2, axis=-1)
        bound = self.config.clamp_logvar
        return Posterior(mu, bound * jnp.tanh(logvar / bound) if bound else logvar)

    def decode(self, z: Float[Array, "b z"], *, train: bool = False) -> Float[Array, "b d"]:
        """Log odds of each bit."""
        return self.decoder_head(self.decoder(z, train))

    def prior(self) -> Posterior:
        """Components of the mixture prior: the posteriors of the pseudo-inputs, [c, z] each."""
        return self.encode(nn.sigmoid(self.pseudo_inputs))

    def init_all(self, x: Float[Array, "b d"], noise: Float[Array, "b z"]) -> Output:
        """Touches every parameter: the method to initialise with."""
        if self.config.prior.kind == "mixture":
            self.prior()
        return self(x, noise)


def init_params(model: MixtureVae, key: Any) -> Any:
    """Parameters of a model, as the nested dict that `model.apply` takes under "params"."""
    x, noise = jnp.zeros((1, model.config.inputs)), jnp.zeros((1, model.latents))
    return model.init(key, x, noise, method="init_all")["params"]
