"""The log: few writes, bounded memory, nothing twice after a resume."""

import json
import subprocess
import sys

from jaxgraph.train.metrics import MetricLog, read_rows


def test_rows_are_written_in_blocks_and_none_is_lost(tmp_path):
    with MetricLog(tmp_path, buffer=50, history=20) as log:
        for step in range(1, 121):
            log.add(step, {"loss": 1 / step})
        assert log.writes == 2
        assert len(read_rows(log.path)) == 100
        assert [row["step"] for row in log.history] == list(range(101, 121))
    assert log.writes == 3
    assert [row["step"] for row in read_rows(log.path)] == list(range(1, 121))


def test_what_is_not_finite_becomes_null(tmp_path):
    with MetricLog(tmp_path) as log:
        log.add(1, {"loss": float("nan"), "rate": float("inf"), "ok": 2.0})
    assert json.loads(log.path.read_text()) == {"step": 1, "loss": None, "rate": None, "ok": 2.0}


def test_a_resumed_log_drops_the_rows_that_will_come_again(tmp_path):
    with MetricLog(tmp_path) as log:
        for step in range(1, 11):
            log.add(step, {"loss": 1.0})
    with open(log.path, "a") as file:
        file.write('{"step": 11, "lo')  # a kill in the middle of a write
    with MetricLog(tmp_path, start=7) as log:
        log.add(8, {"loss": 2.0})
    rows = read_rows(log.path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8] and rows[-1]["loss"] == 2.0


def test_tensorboard_files_hold_the_scalars(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    with MetricLog(tmp_path) as log:
        log.add(3, {"train/loss": 0.25})
    (path,) = (tmp_path / "tensorboard").glob("events*")
    data, found = path.read_bytes(), []
    while data:  # each record: length, its checksum, the event, its checksum
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + size :]
    assert found == [(3, "train/loss", 0.25)]


def test_a_log_starts_without_pytorch(tmp_path):
    lines = (
        "import importlib.util, pathlib, sys", "from jaxgraph.train.metrics import MetricLog",
        "with MetricLog(pathlib.Path(sys.argv[1])) as log: log.add(1, {'loss': 1.0})",
        "assert 'torch' not in sys.modules and importlib.util.find_spec('torch')",
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", "\n".join(lines), str(tmp_path)], check=True)
    assert list((tmp_path / "tensorboard").glob("events*"))
