"""Layers and model: shapes, complex arithmetic, noise, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.vae.dropout import Dropout
from jaxgraph.vae.layers import activate_magnitude, complex_product
from jaxgraph.vae.model import MixtureVae
from jaxgraph.vae.widths import layer_widths, model_widths
from tests.vae import models

RNG = np.random.default_rng(3)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def run(model, params, *args, **options):
    return MixtureVae(model).apply({"params": params}, *args, **options)


def test_the_default_model_has_the_seeds_sizes():
    widths = model_widths(models.Model(inputs=256))
    assert widths.encoder == (225, 193, 162, 130, 99, 67) and widths.latent == 36
    assert widths.decoder == (36, 67, 99, 130, 162, 193)
    for kind, count in (("real", 307_640), ("complex", 619_983)):
        shapes = models.random_params(models.Model(kind=kind, inputs=256))
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("inputs, layers, cap, smallest", [
    (1, 1, 768, 2), (1, 1, 768, 1), (3, 9, 768, 2), (64, 3, 5, 2), (100, 2, 1, 1),
])
def test_widths_at_their_corners(inputs, layers, cap, smallest):
    widths = layer_widths(inputs, layers, cap, smallest)
    assert widths[-1] == max(smallest, inputs // (layers + 1))
    assert all(smallest <= width <= max(smallest, cap) for width in widths[:-1])
    assert all(a != b for a, b in zip(widths, widths[1:], strict=False))


@pytest.mark.parametrize("parts", [1, 2])
def test_the_complex_product_is_that_of_complex_numbers(parts):
    x, a, b = draw(5, parts, 7), draw(7, 4), draw(7, 4)
    number = np.asarray(x[:, 0]) + (1j * np.asarray(x[:, 1]) if parts == 2 else 0)
    expected = number @ (np.asarray(a) + 1j * np.asarray(b))
    found = np.asarray(complex_product(x, a, b))
    np.testing.assert_allclose(found[:, 0] + 1j * found[:, 1], expected, atol=1e-5)


@pytest.mark.parametrize("activation", ["silu", "gelu", "softplus"])
def test_magnitudes_are_activated_and_phases_stay(activation):
    x = draw(6, 2, 3)
    found = np.asarray(activate_magnitude(x, activation))
    before, after = (np.asarray(y)[:, 0] + 1j * np.asarray(y)[:, 1] for y in (x, found))
    np.testing.assert_allclose(np.angle(after), np.angle(before), atol=1e-5)
    # A phase turned before is a phase turned behind.
    turned = np.stack([-np.asarray(x)[:, 1], np.asarray(x)[:, 0]], 1)
    again = np.asarray(activate_magnitude(jnp.asarray(turned), activation))
    np.testing.assert_allclose(again[:, 0] + 1j * again[:, 1], 1j * after, atol=1e-5)
    gradient = jax.grad(lambda x: activate_magnitude(x, activation).sum())(jnp.zeros((1, 2, 1)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", models.KINDS)
def test_call_encode_and_decode_agree(name):
    model = models.small(name)
    params = models.random_params(model)
    x, noise = draw(4, models.INPUTS), draw(4, MixtureVae(model).latents)
    out = run(model, params, x, noise)
    mu, logvar = run(model, params, x, method="encode")
    np.testing.assert_allclose(out.z, mu + np.exp(logvar / 2) * noise, atol=1e-6)
    assert out.mu.shape == out.logvar.shape == noise.shape
    np.testing.assert_allclose(out.logits, run(model, params, out.z, method="decode"), atol=1e-6)
    rngs = {"latents": jax.random.key(1)}
    first, again = (run(model, params, x, rngs=rngs) for _ in range(2))
    other = run(model, params, x, rngs={"latents": jax.random.key(2)})
    assert (first.z == again.z).all() and (first.z != other.z).any()
    # A row does not depend on its neighbours.
    alone = run(model, params, x[1:2], noise[1:2])
    np.testing.assert_allclose(alone.logits, out.logits[1:2], atol=1e-5)


def test_dropout_acts_in_training_only():
    model = models.small(dropout=0.5)
    params, x = models.random_params(model), draw(4, models.INPUTS)
    noise = jnp.zeros((4, MixtureVae(model).latents))
    still = run(model, params, x, noise)
    moved = run(model, params, x, noise, train=True, rngs={"dropout": jax.random.key(0)})
    same = run(models.small(), params, x, noise)
    assert (still.logits == same.logits).all() and (still.logits != moved.logits).any()


@pytest.mark.parametrize("shape", [(400, 31), (200, 2, 33)])
def test_dropout_zeroes_its_share_and_keeps_the_mean(shape):
    x, layer = jnp.ones(shape), Dropout(0.12)
    draw_with = lambda seed: np.asarray(  # noqa: E731
        layer.apply({}, x, True, rngs={"dropout": jax.random.key(seed)})
    )
    first = draw_with(0)
    zeros = first == 0
    assert zeros.mean() == pytest.approx(0.12, abs=0.01)
    assert first.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(first[~zeros], 1 / 0.88, rtol=1e-4)
    # Neighbours, which share a draw, and rows are independent.
    pairs = zeros.reshape(len(x), -1)
    both = (pairs[:, ::2][:, :15] & pairs[:, 1::2][:, :15]).mean()
    assert both == pytest.approx(0.12**2, abs=0.005)
    assert (first != draw_with(1)).any() and (layer.apply({}, x, False) == x).all()


def test_log_variances_are_clamped_smoothly():
    model = models.small(clamp_logvar=2.0)
    params = models.random_params(model)
    free = run(models.small(), params, 50 * draw(4, models.INPUTS), method="encode")
    kept = run(model, params, 50 * draw(4, models.INPUTS), method="encode")
    assert np.abs(kept.logvar).max() <= 2.0
    x = draw(4, models.INPUTS)
    free, kept = (run(m, params, x, method="encode") for m in (models.small(), model))
    np.testing.assert_allclose(kept.logvar, 2 * np.tanh(free.logvar / 2), atol=1e-6)
    assert (kept.mu == free.mu).all()


def test_rows_of_another_width_are_refused():
    model = models.small()
    with pytest.raises(ValueError, match="rows of 23 coordinates; the model has 24 inputs"):
        run(model, models.random_params(model), draw(2, 23), method="encode")


@pytest.mark.parametrize("name", ["real", "complex"])
def test_float64_all_the_way(name):
    model = models.small(name)
    params = models.random_params(model)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), params)
        x = jnp.asarray(RNG.normal(size=(2, models.INPUTS)))
        noise = jnp.zeros((2, MixtureVae(model).latents), jnp.float64)
        out = run(model, wide, x, noise)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {np.dtype("float64")}


def test_initialisation_is_that_of_pytorch():
    from jaxgraph.vae.model import init_params

    model = models.small("complex", num_layers=1, inputs=400)
    params = jax.jit(lambda key: init_params(MixtureVae(model), key))(jax.random.key(0))
    layer = params["encoder"]["layer_0"]["linear"]
    for name in ("real_kernel", "imag_kernel", "bias"):
        bound = 400**-0.5
        assert 0.95 * bound < np.abs(layer[name]).max() <= bound
        assert abs(np.std(layer[name]) - bound / 3**0.5) < 0.1 * bound
    assert not np.any(layer["real_bias"]) and not np.any(layer["imag_bias"])
