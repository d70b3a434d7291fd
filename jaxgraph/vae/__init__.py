"""Mixture VAE: a fully connected variational autoencoder of noisy bits.

Words of this system:
  bits: a number's binary digits, least significant first, each with Gaussian noise.
  mixture likelihood: each bit is 1 or 0 with a probability that the decoder gives, plus that noise.
  complex: layers whose activations are pairs of real arrays, real and imaginary part.
  separability: how far the classes of numbers lie apart in the latent space, beside their spread.

Source: the seed system n0px (spec/vae.md); deviations are listed in docs/parity.md.
"""
