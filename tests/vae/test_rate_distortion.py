"""Rate and distortion: theory's point, and the command from training to the figure."""

import json
import math
import sys

import numpy as np
import pytest

from jaxgraph import errors
from jaxgraph.vae.evaluation import Rows
from jaxgraph.vae.metrics.levels import noise_floor
from jaxgraph.vae.rate_distortion import locate
from scripts import rate_distortion


def test_a_constant_decoder_of_fair_bits_is_on_the_line_at_rate_zero():
    zeros = np.zeros(50)
    rows = Rows(zeros, zeros, zeros, zeros, np.full(50, 254 * math.log(2)), zeros, zeros, zeros)
    point = locate(rows, 256, 0.05)
    assert point.distortion == pytest.approx(point.least) == pytest.approx(-227.600, abs=1e-3)
    moved = locate(rows._replace(kl=np.linspace(0, 20, 50)), 256, 0.05)
    assert moved.rate == pytest.approx(10) and point.least - moved.least == pytest.approx(10)
    assert moved.error == pytest.approx(np.linspace(0, 20, 50).std(ddof=1) / 50**0.5)


def run(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["rate_distortion.py", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        errors.run(rate_distortion.main)
    return ended.value.code


def test_the_command_trains_each_beta_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXGRAPH_ASSETS", str(tmp_path / "assets"))
    args = [
        "--config", "configs/smoke/vae.yaml", "--betas", "0.5", "--workdir", tmp_path / "rd",
        "--task.data.bits", "32", "--task.data.per_class", "60", "--task.model.num_layers", "1",
        "--train.steps", "4", "--train.steps_per_call", "2", "--train.eval_every", "4",
        "--train.save_every", "4", "--train.compile_cache", "false", "--train.progress", "off",
        "--parallel.data", "1",
    ]  # fmt: skip
    assert run(monkeypatch, *args) == 0
    [point] = json.loads((tmp_path / "rd" / "rate_distortion.json").read_text())
    assert point["beta"] == 0.5 and point["rate"] > 0
    assert point["distortion"] > point["least"] > noise_floor(32, 0.05)
    assert (tmp_path / "rd" / "rate_distortion.png").read_bytes()[:4] == b"\x89PNG"
    assert "beta 0.5, test split" in capsys.readouterr().out


@pytest.mark.parametrize("args, message", [
    (["--config", "configs/smoke/moe.yaml"], "trains no VAE on noisy bits"),
    (["--config", "configs/smoke/vae.yaml", "--betas", "0.1,-2"], "invalid _numbers value"),
])
def test_what_cannot_be_measured_is_refused(args, message, monkeypatch, capsys):
    assert run(monkeypatch, *args) == 2
    assert message in capsys.readouterr().err
