"""What figures show is what was logged."""

import json

import numpy as np
import pytest

from jaxgraph import config as configs
from jaxgraph.plots.figure import TooLittle
from jaxgraph.plots.history import History, Series, read_history
from jaxgraph.plots.marks import running_mean, timeline
from jaxgraph.plots.moe import experts, ghosts, losses, rotations
from jaxgraph.plots.moe.tables import by_layer, latest
from jaxgraph.plots.style import colour
from jaxgraph.plots.training import loss, merged
from tests.plots import runs


@pytest.fixture(scope="module")
def history():
    return History(runs.full_rows())


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return configs.load([*runs.OPTIONS, "--workdir", "x"])


def shown(canvas, panel):
    """Values of the heat map in a panel."""
    return np.ma.filled(canvas.axes[panel].images[0].get_array().astype(float), np.nan)


def lines(ax):
    return {one.get_label(): one.get_xydata() for one in ax.lines}


def test_of_two_values_for_a_step_the_later_counts_and_null_is_none(tmp_path):
    rows = [
        {"step": 2, "a": 5.0, "b": None}, {"step": 1, "a": 1.0}, {"step": 2, "a": 7.0, "b": 3.0},
        {"step": 3, "b": None},
    ]
    path = tmp_path / "metrics.jsonl"
    # A kill in the middle of a write: the last line is cut.
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "a"')
    history = read_history(path)
    assert history["a"].steps.tolist() == [1, 2] and history["a"].values.tolist() == [1, 7]
    assert history["b"].steps.tolist() == [2] and history.last_step == 2
    assert "c" not in history and history.names("?") == ["a", "b"]


def test_the_loss_figure_shows_training_validation_and_baselines(history, config):
    (ax,) = loss(history, config).axes
    drawn = lines(ax)
    assert drawn["training, all terms"][9].tolist() == [10, 5.5]
    assert drawn["validation"][:, 0].tolist() == [20, 40, 60]
    assert drawn["unigram entropy: 4.50"][:, 1].tolist() == [4.5, 4.5]
    assert ax.get_ylabel() == "loss (nats per token)"


def test_tables_are_those_of_the_last_measurement(history, config):
    canvas = experts.connections(history, config)
    for i in range(runs.LAYERS):
        table = shown(canvas, i)
        for u in range(runs.NODES):
            for v in range(runs.NODES):
                if u == v:
                    assert np.isnan(table[u, v])
                else:
                    assert table[u, v] == (0 if 4 in (u, v) else u + v + i / 2)
    labels = [label.get_text() for label in canvas.axes[0].get_xticklabels()]
    assert labels == ["E0", "E1", "E2", "G0", "G1"]
    similar = shown(experts.similarity(history, config), 1)
    assert np.isclose(similar[0, 2], -0.2 + 0.6) and similar[2, 0] == similar[0, 2]
    heard = shown(experts.listening(history, config), 0)
    assert np.isclose(heard[2, 1], 0.21) and np.isclose(heard[1, 2], 0.12)


def test_a_value_that_is_older_than_the_last_measurement_is_not_shown():
    entries = {
        (0, 1): Series(np.array([1, 2]), np.array([0.1, 0.2])),
        (0, 2): Series(np.array([1]), np.array([0.3])),
    }
    table = latest(entries)
    assert table[0, 1] == table[1, 0] == 0.2 and np.isnan(table[0, 2])


def test_loads_are_shown_as_bars_and_over_time(history, config):
    canvas = experts.load(history, config)
    for i, ax in enumerate(canvas.axes):
        heights = [bar.get_height() for bar in ax.patches]
        np.testing.assert_allclose(heights, [runs.load(60, i, n) for n in range(5)])
        # Four of five nodes are awake.
        np.testing.assert_allclose(ax.lines[0].get_ydata(), 0.25)
    mesh = experts.load_timeline(history, config).axes[1].collections[0]
    values = np.asarray(mesh.get_array()).reshape(5, 6)
    expected = [[runs.load(step, 1, n) for step in range(10, 70, 10)] for n in range(5)]
    np.testing.assert_allclose(values, expected)


def test_correlations_are_those_of_the_loads_and_constant_loads_have_none(history, config):
    table = shown(experts.load_correlation(history, config), 0)
    loads = [[runs.load(step, 0, n) for step in range(10, 70, 10)] for n in range(4)]
    np.testing.assert_allclose(table[:4, :4], np.corrcoef(loads))
    assert np.isnan(table[4]).all() and np.isnan(table[:, 4]).all()


def test_the_entropy_of_the_mean_load_counts_awake_nodes_only(history):
    entries = by_layer(history, experts.LOAD)[0]
    found = experts.mean_entropy(entries)
    for step, value in zip(found.steps, found.values, strict=True):
        shares = np.array([runs.load(step, 0, n) for n in range(5)])
        shares = shares[shares > 0]
        assert len(shares) == (3 if step <= 20 else 4)
        np.testing.assert_allclose(value, -(shares * np.log(shares)).sum() / np.log(len(shares)))


def test_the_ghost_timeline_holds_levels_saturation_its_mean_and_the_threshold(history, config):
    canvas = ghosts.ghost_timeline(history, config)
    levels, saturation = canvas.axes[0], canvas.axes[2]
    drawn = lines(levels)
    assert drawn["level of G0"][:, 1].tolist() == [0, 0, 0.5, 1, 1, 1]
    assert (drawn["level of G1"][:, 1] == 0).all()
    single = np.array([np.prod(runs.saturation_factors(step, 0)) for step in range(1, 61)])
    raw, mean, threshold = saturation.lines
    np.testing.assert_allclose(raw.get_ydata(), single)
    np.testing.assert_allclose(mean.get_ydata()[-1], single[-10:].mean())
    np.testing.assert_allclose(mean.get_ydata()[2], single[:3].mean())
    assert threshold.get_ydata() == [0.4, 0.4]


def test_the_phase_plot_pairs_values_of_the_same_step(history, config):
    dots = ghosts.phase(history, config).axes[1].collections[0]
    x, y = dots.get_offsets().T
    np.testing.assert_allclose(x, [np.prod(runs.saturation_factors(s, 1)) for s in range(1, 61)])
    np.testing.assert_allclose(y, [runs.level(step) / 2 for step in range(1, 61)])


def test_angles_have_a_panel_per_layer_and_expert_and_their_vectors_are_compared(history, config):
    canvas = rotations.angles(history, config)
    assert [ax.get_title() for ax in canvas.axes] == [
        f"layer {i}, E{e}" for i in range(2) for e in range(3)
    ]
    first, second = canvas.axes[5].lines
    np.testing.assert_allclose(first.get_ydata()[-1], 0.2 + 0.06)
    np.testing.assert_allclose(second.get_ydata()[0], 0.0 + 0.01)
    vectors = np.array([[0.1 * e + 0.06, 0.1 * e - 0.14] for e in range(3)])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(shown(rotations.alike(history, config), 0), unit @ unit.T)


def test_a_timeline_leaves_gaps_where_a_series_has_no_value():
    from matplotlib.figure import Figure

    one = Series(np.array([10, 20, 30]), np.array([1.0, 2.0, 3.0]))
    two = Series(np.array([20]), np.array([5.0]))
    mesh = timeline(Figure().subplots(), [one, two], ["a", "b"], low=0.0, high=5.0)
    values = np.ma.filled(mesh.get_array().reshape(2, 3), np.nan)
    np.testing.assert_array_equal(values, [[1, 2, 3], [np.nan, 5, np.nan]])


def test_a_running_mean_is_centred_and_leaves_lines_as_they_are():
    straight = np.arange(400.0)
    np.testing.assert_allclose(running_mean(straight), straight, atol=1e-9)
    noisy = np.random.default_rng(0).normal(size=400)
    assert running_mean(noisy)[20:-20].std() < 0.4 * noisy.std()


def test_equal_series_share_a_line_and_many_series_have_colours_of_their_own(history):
    names = ("expert", "ghost", "rotation")
    groups = merged((name, history[f"train/lr/{name}"]) for name in names)
    assert [label for label, _ in groups] == ["expert, ghost", "rotation"]
    for count in (1, 7, 8, 40):
        assert len({colour(i, count) for i in range(count)}) == count


def test_orthogonality_has_a_panel_for_each_of_the_two_that_was_logged(config):
    rows = runs.full_rows()
    titles = lambda drop: [  # noqa: E731
        ax.get_title().split(":")[0]
        for ax in experts.orthogonality(
            History({k: v for k, v in row.items() if drop not in k} for row in rows), config
        ).axes
    ]
    assert titles("nothing") == ["what experts compute", "their weights"]
    assert titles("train/orthogonality") == ["their weights"]
    assert titles("specialization") == ["what experts compute"]
    with pytest.raises(TooLittle, match="no orthogonality loss"):
        titles("orthogonality")


def test_the_router_has_a_panel_per_metric_with_a_line_per_layer_and_expert(history, config):
    drawn = {ax.get_title(): list(lines(ax)) for ax in losses.router(history, config).axes}
    assert drawn["load"] == ["layer 0/0", "layer 1/0"]
    assert drawn["entropy"] == ["layer 0", "layer 1"] and len(drawn["collapsed"]) == 1
