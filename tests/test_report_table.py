"""Findings as text."""

from jaxgraph.report_table import to_cell, to_text


def test_sections_are_values_rows_or_a_line():
    text = to_text({
        "what holds": {"loss": -227.216, "rows": 90000, "of": "numbers", "collapsed": True},
        "probes": [
            {"features": "mu", "accuracy": 0.33333, "interval": [0.32, 0.341], "p": None},
            {"features": "raw bits", "accuracy": 0.5, "interval": (0.49, 0.51), "p": 0.001},
        ],
        "empty": [],
        "verdict": "collapse",
    })  # fmt: skip
    assert text.splitlines() == [
        "what holds",
        "  loss       -227.22",
        "  rows       90,000",
        "  of         numbers",
        "  collapsed  yes",
        "probes",
        "  features  accuracy  interval       p",
        "  mu        0.3333    [0.32, 0.341]  -",
        "  raw bits  0.5       [0.49, 0.51]   0.001",
        "empty: []",
        "verdict: collapse",
    ]


def test_small_numbers_keep_their_digits():
    assert to_cell(0.00022346) == "0.0002235" and to_cell(1e-12) == "1e-12"
    assert to_cell(0) == "0" and to_cell(False) == "no" and to_cell(-403.659) == "-403.66"
