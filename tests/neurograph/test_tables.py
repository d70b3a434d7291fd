"""Lookup tables: values, ends, widths, quantisers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgraph.neurograph.tables import (
    look_up,
    make_tables,
    quantise_magnitude,
    quantise_phase,
    wrap,
)

TABLES = make_tables(16, 33)


def test_values():
    np.testing.assert_allclose(TABLES.cos[[0, 4, 8]], [1, 0, -1], atol=1e-7)
    np.testing.assert_allclose(TABLES.sin[[0, 4, 8]], [0, 1, 0], atol=1e-7)
    np.testing.assert_allclose(
        TABLES.exp_sin[[0, 8, 16, 24, 32]], [1, np.exp(-1), 1, np.e, 1], rtol=1e-6
    )


def test_slopes_are_those_of_neighbouring_entries():
    tables = make_tables(512, 1024)
    found = np.diff(tables.exp_sin) / tables.mag_width
    middle = (tables.exp_sin_slope[1:] + tables.exp_sin_slope[:-1]) / 2
    np.testing.assert_allclose(found, middle, atol=1e-3)
    found = np.diff(tables.cos) / tables.phase_width
    np.testing.assert_allclose(found, -(tables.sin[1:] + tables.sin[:-1]) / 2, atol=1e-3)


def test_lookups_stop_at_the_ends_and_indices_wrap():
    index = jnp.array([-3, 0, 16, 40])
    np.testing.assert_array_equal(look_up(TABLES.cos, index), TABLES.cos[[0, 0, 15, 15]])
    np.testing.assert_array_equal(wrap(index, 16), [13, 0, 0, 8])


@pytest.mark.parametrize("bins", [16, 512])
def test_bins_hold_their_own_angles(bins):
    angle = (jnp.arange(bins) + 0.5) * (2 * np.pi / bins)
    for turns in (0, 1, -3):
        found = quantise_phase(angle + 2 * np.pi * turns, bins)
        np.testing.assert_array_equal(found, np.arange(bins))


def test_magnitudes_beyond_the_range_take_the_last_bins():
    found = quantise_magnitude(jnp.array([-9.0, -3.0, -0.01, 0.01, 2.99, 3.0, 9.0]), 64)
    np.testing.assert_array_equal(found, [0, 0, 31, 32, 63, 63, 63])
