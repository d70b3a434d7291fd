"""Configs: what is read, what is refused and in which words."""

import dataclasses
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jaxgraph import config, config_keys, config_options, config_resume, config_values
from jaxgraph.config_yaml import Reading, parse
from jaxgraph.errors import UserError
from jaxgraph.fields import Positive

ROOT = Path(__file__).parent.parent


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "a.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def refused(argv: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        config.load(argv)
    return str(caught.value)


# The wrong text, then what the message must name: line and key, value, remedy.
WRONG_YAML = [
    # unknown keys
    ("seed: 1\nsede: 3", "2: sede", "'3'", "did you mean 'seed'?"),
    ("trian: {steps: 5}", "1: trian", "{steps: 5}", "did you mean 'train'?"),
    ("task:\n  modle: {width: 8}", "2: task.modle", "{width: 8}", "did you mean 'task.model'?"),
    ("task: {model: {num_expert: 8}}", "1: task.model.num_expert", "'8'", "'task.model.num_exp"),
    (
        "task: {model: {num-experts: 8}}",
        "task.model.num-experts",
        "'8'",
        "'task.model.num_experts'",
    ),
    ("train: {step: 5}", "1: train.step", "'5'", "did you mean 'train.steps'?"),
    ("steps: 5", "1: steps", "'5'", "did you mean 'train.steps'?"),
    ("lr: 1e-3", "1: lr", "'1e-3'", "'task.optim.expert.lr'"),
    ("zzz: 5", "1: zzz", "'5'", "allowed: system, seed, workdir, task, train, parallel"),
    ("task: {optim: {zzz: 5}}", "1: task.optim.zzz", "'5'", "task.optim.expert, task.optim.ghost"),
    ("task: {seed: 3}", "1: task.seed", "'3'", "did you mean 'seed'?"),
    ("train.steps: 5", "1: train.steps", "'5'", "write it nested: 'train: {steps: ...}'"),
    ("config: a.yaml", "1: config", "'a.yaml'", "allowed: system, "),
    ("3: 4", "1: 3", "'4'", "allowed: system, "),
    ("? [a, b]\n: 3", "1: top level", "'[a, b]'", "allowed: plain names"),
    ("train:\n  <<: {steps: 5}", "2: train.<<", "{steps: 5}", "write its keys out"),
    ("seed: 1\nseed: 2", "2: seed", "'2' again after line 1", "keep one"),
    ("train: {steps: 5}\ntrain: {steps: 6}", "2: train", "{steps: 6}", "keep one"),
    ("system: meo", "1: system", "'meo'", "vae, neurograph, latentwire (did you mean 'moe'?)"),
    # whole numbers
    ("train: {steps: many}", "1: train.steps", "'many'", "a whole number at least 1"),
    ("train: {steps: 1e3}", "1: train.steps", "'1e3'", "write 1000"),
    ("train: {steps: 1_000}", "1: train.steps", "'1_000'", "write 1000"),
    ("train: {steps: 012}", "1: train.steps", "'012'", "write 12"),
    ("train: {steps: 12:30}", "1: train.steps", "'12:30'", "a whole number"),
    ("train: {steps: 0x10}", "1: train.steps", "'0x10'", "a whole number"),
    ("train: {steps: 10.0}", "1: train.steps", "'10.0'", "write 10"),
    ("train: {steps: 10.5}", "1: train.steps", "'10.5'", "a whole number"),
    ("train: {steps: '100'}", "1: train.steps", "'100'", "without quotes"),
    ("train: {steps: true}", "1: train.steps", "'true'", "a whole number"),
    ("train: {steps: null}", "1: train.steps", "'null'", "a whole number"),
    ("train: {steps: ~}", "1: train.steps", "'~'", "a whole number"),
    ("train:\n  steps:", "2: train.steps", "no value", "a whole number"),
    ("train: {steps: [1, 2]}", "1: train.steps", "'[1, 2]'", "a whole number"),
    ("train: {steps: {a: 1}}", "1: train.steps", "'{a: 1}'", "a whole number"),
    ("train: {steps: 2024-01-01}", "1: train.steps", "'2024-01-01'", "a whole number"),
    ("train: {steps: ١٢}", "1: train.steps", "'١٢'", "write 12"),
    # numbers
    ("task: {model: {dropout: half}}", "1: task.model.dropout", "'half'", "a number from 0 to 1"),
    ("task: {model: {dropout: .inf}}", "1: task.model.dropout", "'.inf'", "a number from 0 to 1"),
    ("task: {model: {dropout: .nan}}", "1: task.model.dropout", "'.nan'", "a number from 0 to 1"),
    ("task: {model: {dropout: nan}}", "1: task.model.dropout", "'nan'", "a number from 0 to 1"),
    ("task: {optim: {clip: 1e999}}", "1: task.optim.clip", "'1e999'", "a number at least 0"),
    ("task: {optim: {clip: 1_0.5}}", "1: task.optim.clip", "'1_0.5'", "write 10.5"),
    ("task: {optim: {clip: 1:30.5}}", "1: task.optim.clip", "'1:30.5'", "a number at least 0"),
    ("task: {optim: {clip: '1.0'}}", "1: task.optim.clip", "'1.0'", "without quotes"),
    # true or false
    ("task: {model: {remat: no}}", "1: task.model.remat", "'no'", "allowed: true or false"),
    ("task: {model: {remat: on}}", "1: task.model.remat", "'on'", "allowed: true or false"),
    ("task: {model: {remat: yes}}", "1: task.model.remat", "'yes'", "allowed: true or false"),
    ("task: {model: {remat: 1}}", "1: task.model.remat", "'1'", "allowed: true or false"),
    ("task: {model: {remat: 'true'}}", "1: task.model.remat", "'true'", "without quotes"),
    # texts and choices
    ("workdir: null", "1: workdir", "'null'", "a text (in quotes if you mean the word)"),
    ("workdir: [a]", "1: workdir", "'[a]'", "a text"),
    ("train: {nonfinite: stop}", "1: train.nonfinite", "'stop'", "allowed: abort, skip"),
    ("train: {nonfinite: Skip}", "1: train.nonfinite", "'Skip'", "did you mean 'skip'?"),
    ("train: {progress: no}", "1: train.progress", "'no'", "auto, bar, plain, off"),
    ("task: {model: {dtype: null}}", "1: task.model.dtype", "'null'", "float32, bfloat16"),
    # structure
    ("train: 5", "1: train", "'5'", "not a section; allowed: train.steps, "),
    ("train: null", "1: train", "'null'", "not a section; allowed: train.steps, "),
    ("train: [steps, 5]", "1: train", "'[steps, 5]'", "not a section; allowed: train.steps, "),
    ("- train", "1: top level", "'- train'", "allowed: system, "),
    ("just words", "1: top level", "'just words'", "allowed: system, "),
    ("task: &a {model: *a}", "1: task.model.model", "{model: *a}", "did you mean 'task.model'?"),
    # not (plain) YAML
    ("seed: !!int 3", ":1:", "tag '!!int'", "write a plain value"),
    ("seed: !!python/object:os.system {}", ":1:", "'!!python/object:os.system'", "plain value"),
    ("seed: 3\ntrain: {steps: 5", ":2:", "<stream end>", "expected ',' or '}'"),
    ("seed: 3\n\tsteps: 5", ":2:", r"'\t'", "not YAML"),
    ("seed: *a", ":1:", "'a'", "undefined alias"),
    ("seed: 3\n---\nseed: 4", ":2:", "another document", "expected a single document"),
    ("seed: 3\nworkdir: \x01", ":2:", "special characters", "not allowed"),
    ("[" * 1000, "a.yaml", "nested too deeply", "config"),
    (b"seed: 3\nworkdir: \xff", ":2:", "not UTF-8", "save the file as UTF-8"),
    ("seed: 3".encode("utf-16"), ":1:", "not UTF-8", "save the file as UTF-8"),
    # ranges and combinations
    ("seed: -1", "1: seed", "got -1", "allowed: a whole number at least 0"),
    ("seed: 4294967296", "1: seed", "got 4294967296", "allowed: 0 to 4294967295"),
    ("workdir: ''", "1: workdir", "got ''", "allowed: the path of a folder"),
    ("task: {model: {dropout: 1.5}}", "1: task.model.dropout", "1.5", "a number from 0 to 1"),
    ("task: {optim: {ghost: {lr: 0}}}", "1: task.optim.ghost.lr", "got 0.0", "a number above 0"),
    ("parallel: {data: -2}", "1: parallel.data", "got -2", "a whole number at least -1"),
    ("parallel: {data: 0}", "1: parallel.data", "0 devices", "allowed: -1 (all) or at least 1"),
    ("parallel: {expert: -1}", "parallel.expert", "-1, and data is -1 too", "a number for one"),
    ("parallel: {backend: pmap, fsdp: true}", "parallel.fsdp", "True", "allowed: backend mesh"),
    ("parallel: {processes: 2, process: 2}", "parallel.process", "2 of 2", "-1 (ask) or 0 to 1"),
    ("task: {model: {width: 130}}", "1: task.model.width", "130", "a multiple of num_heads 4"),
]


@pytest.mark.parametrize("text, key, value, remedy", WRONG_YAML)
def test_wrong_yaml_is_refused_with_line_key_value_and_remedy(write, text, key, value, remedy):
    path = write(text)
    message = refused(["--config", path])
    assert path in message and key in message and value in message and remedy in message
    assert "\n" not in message


# The options, then what the message must name: option, value, remedy.
WRONG_OPTIONS = [
    ("--train.step 5", "--train.step:", "'5'", "did you mean '--train.steps'?"),
    ("--task.modle.width 8", "--task.modle.width:", "'8'", "'--task.model.width'"),
    ("--task.model.num-expert 8", "--task.model.num_expert:", "'8'", "'--task.model.num_experts'"),
    ("--steps 5", "--steps:", "'5'", "did you mean '--train.steps'?"),
    ("--lr 1e-3", "--lr:", "'1e-3'", "'--task.optim.expert.lr'"),
    ("--SEED 5", "--SEED:", "'5'", "did you mean '--seed'?"),
    ("--zzz 5", "--zzz:", "'5'", "allowed: --config, --system, --seed"),
    ("--zzz", "--zzz:", "no value", "allowed: --config, --system, --seed"),
    ("--train.no_compile_cache", "--train.no_compile_cache:", "no value", "compile_cache'?"),
    ("--train 5", "--train:", "'5'", "a section, not an option"),
    ("--task.optim 5", "--task.optim:", "'5'", "--task.optim.expert, --task.optim.ghost"),
    ("100", "'100'", "without an option", "write --NAME 100"),
    ("-seed 3", "-seed", "two dashes", "write --seed"),
    ("--train.steps", "--train.steps:", "no value", "a whole number at least 1"),
    ("--train.steps --seed 3", "--train.steps:", "no value", "a whole number at least 1"),
    ("--train.steps=", "--train.steps:", "''", "a whole number at least 1"),
    ("--train.steps 5 6", "--train.steps:", "2 values 5 6", "a whole number at least 1"),
    ("--seed 1 --seed 2", "--seed:", "'1' and '2'", "keep one"),
    ("--seed 1 --seed=2", "--seed:", "'1' and '2'", "keep one"),
    ("--train.steps abc", "--train.steps:", "'abc'", "a whole number at least 1"),
    ("--train.steps 1e3", "--train.steps:", "'1e3'", "write 1000"),
    ("--train.steps 1_000", "--train.steps:", "'1_000'", "write 1000"),
    ("--train.steps 012", "--train.steps:", "'012'", "write 12"),
    ("--train.steps=0", "--train.steps:", "got 0", "a whole number at least 1"),
    ("--seed -1", "--seed:", "got -1", "a whole number at least 0"),
    ("--task.optim.clip nan", "--task.optim.clip:", "'nan'", "a number at least 0"),
    ("--task.optim.clip 1,5", "--task.optim.clip:", "'1,5'", "a number at least 0"),
    ("--task.model.dropout 2", "--task.model.dropout:", "got 2.0", "a number from 0 to 1"),
    ("--task.model.remat", "--task.model.remat:", "no value", "true or false"),
    ("--task.model.remat yes", "--task.model.remat:", "'yes'", "true or false"),
    ("--task.model.mode ghosts", "--task.model.mode:", "'ghosts'", "did you mean 'ghost'?"),
    ("--train.nonfinite=stop", "--train.nonfinite:", "'stop'", "abort, skip"),
    ("--workdir=", "--workdir:", "got ''", "the path of a folder"),
    ("--system meo", "--system:", "'meo'", "allowed: moe"),
    ("--system", "--system:", "no value", "allowed: moe"),
    ("--config", "--config:", "no value", "a text"),
    ("--config configs/meo.yaml", "--config:", "'configs/meo.yaml'", "'configs/moe.yaml'"),
    ("--config nowhere/a.yaml", "--config:", "'nowhere/a.yaml'", "such as configs/moe.yaml"),
    ("--config configs", "--config:", "'configs' is a folder", "a YAML file in it"),
    ("--config a\0b", "--config:", r"'a\x00b'", "null byte"),
    ("--config pyproject.toml/a", "--config:", "'pyproject.toml/a'", "Not a directory"),
    ("--task.data.seq_len 600", "--task.data.seq_len:", "600", "above model.max_seq_len 512"),
    ("--task.model.num_heads 3", "task.model.width:", "128", "not a multiple of num_heads 3"),
    ("--task.model.num_experts 200 --task.model.hypergraph.strategy triplets",
     "--task.model.hypergraph.strategy:", "'triplets' over 200", "at most 4096"),
]  # fmt: skip


@pytest.mark.parametrize("options, key, value, remedy", WRONG_OPTIONS)
def test_wrong_option_is_refused_with_name_value_and_remedy(
    monkeypatch, options, key, value, remedy
):
    monkeypatch.chdir(ROOT)
    message = refused(options.split())
    assert key in message and value in message and remedy in message
    assert "\n" not in message


def test_all_problems_of_file_and_options_come_in_one_message(write):
    path = write("sede: 3\ntrain: {steps: many}\ntask: 5")
    message = refused(["--config", path, "--train.log_every", "x", "--see", "3", "--a", "--a"])
    first, *lines = message.splitlines()
    assert first.startswith("7 problems")
    starts = [f"{path}:1: sede", f"{path}:2: train.steps", f"{path}:3: task: got '5'"]
    starts += ["--a: given twice", "--train.log_every", "--see", "--a"]
    assert len(lines) == 7
    for start in starts:
        assert any(line.startswith(f"  {start}") for line in lines), start


def test_all_ranges_and_combinations_come_in_one_message(write):
    path = write("train: {log_every: 0}\ntask: {data: {seq_len: 9000}}\nparallel: {data: 0}")
    lines = refused(["--config", path, "--train.save_every", "-5", "--task.model.width", "9"])
    starts = [f"{path}:1: train.log_every: got 0", "--train.save_every: got -5"]
    starts += [f"{path}:3: parallel.data", f"{path}:2: task.data.seq_len", "--task.model.width: 9"]
    assert sorted(line.strip()[:20] for line in lines.splitlines()[1:]) == sorted(
        start[:20] for start in starts
    )
    assert all(start in lines for start in starts)


def test_combinations_of_numbers_out_of_range_are_not_computed():
    """`problems()` would divide by this zero."""
    message = refused(["--task.model.num_heads", "0", "--train.steps_per_call", "0"])
    assert message.startswith("2 problems") and message.count("got 0; allowed") == 2


def test_long_values_do_not_flood_the_message(write):
    assert len(refused(["--config", write(f"seed: {'x' * 10_000}")])) < 500


# What YAML 1.1 or Python would read as something else.
TRAPS = [
    ("task: {optim: {expert: {lr: 1e-4}}}", "task.optim.expert.lr", 1e-4),
    ("task: {optim: {expert: {lr: 1E-4}}}", "task.optim.expert.lr", 1e-4),
    ("task: {optim: {expert: {lr: .5}}}", "task.optim.expert.lr", 0.5),
    ("task: {optim: {expert: {lr: 5.}}}", "task.optim.expert.lr", 5.0),
    ("task: {optim: {clip: 2}}", "task.optim.clip", 2.0),
    ("train: {progress: off}", "train.progress", "off"),
    ("workdir: no", "workdir", "no"),
    ("workdir: 012", "workdir", "012"),
    ("workdir: 1.50", "workdir", "1.50"),
    ("workdir: 12:30", "workdir", "12:30"),
    ("workdir: 2024-01-01", "workdir", "2024-01-01"),
    ("workdir: 'null'", "workdir", "null"),
    ("workdir: 'a: b'", "workdir", "a: b"),
    ("workdir: läuft/✓", "workdir", "läuft/✓"),
    ("\ufeffworkdir: a", "workdir", "a"),
    ("task: {model: {remat: true}}", "task.model.remat", True),
    ("task: {model: {remat: True}}", "task.model.remat", True),
    ("train: {compile_cache: FALSE}", "train.compile_cache", False),
    ("seed: 4294967295", "seed", 4294967295),
    ("parallel: {data: -1}", "parallel.data", -1),
    ("workdir: &a x\ntask: {data: {source: *a}}", "task.data.source", "x"),
    ("train: {save_every: &n 7, log_every: *n}", "train.log_every", 7),
    ("", "seed", 0),
    ("# only a comment\n", "seed", 0),
    ("---\n", "seed", 0),
    ("train:\n  # steps: 5\nseed: 3", "seed", 3),
    ("train: {}", "train.steps", 1000),
]


@pytest.mark.parametrize("text, key, value", TRAPS)
def test_yaml_scalars_are_read_by_the_type_of_their_field(write, text, key, value):
    read = config_resume.flatten(config.to_dict(config.load(["--config", write(text)])))
    assert read[key] == value and type(read[key]) is type(value)


OPTIONS = [
    (["--train.steps", "7"], "train.steps", 7),
    (["--train.steps=7"], "train.steps", 7),
    (["--train.log-every", "7"], "train.log_every", 7),
    (["--train.log_every=7"], "train.log_every", 7),
    (["--parallel.data", "-1"], "parallel.data", -1),
    (["--task.optim.expert.lr", "1e-4"], "task.optim.expert.lr", 1e-4),
    (["--task.optim.clip", "2"], "task.optim.clip", 2.0),
    (["--task.model.remat", "true"], "task.model.remat", True),
    (["--train.compile_cache=False"], "train.compile_cache", False),
    (["--workdir", "null"], "workdir", "null"),
    (["--workdir", "a b"], "workdir", "a b"),
    (["--workdir=--x=y"], "workdir", "--x=y"),
    (["--workdir=-x"], "workdir", "-x"),
    ([], "workdir", "runs/moe"),
]


@pytest.mark.parametrize("argv, key, value", OPTIONS)
def test_options_are_read_by_the_type_of_their_field(argv, key, value):
    read = config_resume.flatten(config.to_dict(config.load(argv)))
    assert read[key] == value and type(read[key]) is type(value)


def test_option_beats_file_beats_default(write):
    path = write("seed: 2\ntrain: {log_every: 3}\ntask: {model: {num_experts: 6}}")
    loaded = config.load(["--task.model.num_experts", "8", "--config", path, "--seed", "5"])
    assert (loaded.seed, loaded.task.model.num_experts) == (5, 8)
    assert loaded.train.log_every == 3
    assert loaded.train.save_every == 200


def test_option_and_file_must_agree_on_the_system(write, monkeypatch):
    monkeypatch.setattr(config, "System", str)
    path = write("system: moe")
    message = refused(["--config", path, "--system", "vae"])
    assert "--system: got 'vae'" in message and f"{path} configures 'moe'" in message


@dataclass(frozen=True)
class Lists:
    pair: tuple[float, float] = (0.9, 0.999)
    sizes: tuple[Positive, ...] = (1, 2)
    limit: Positive | None = None
    note: str | None = None


LISTS = config_keys.types_of(Lists())


def test_lists_and_null_in_yaml():
    text = "pair: [1e-3, 2]\nsizes:\n- 3\n- 4\n- 5\nlimit: 4\nnote: 'null'"
    reading = Reading("a", LISTS).read(parse(text, "a"))
    assert not reading.problems
    assert reading.values == {"pair": (1e-3, 2.0), "sizes": (3, 4, 5), "limit": 4, "note": "null"}
    reading = Reading("a", LISTS).read(parse("{limit: null, note: ~, sizes: []}", "a"))
    assert reading.values == {"limit": None, "note": None, "sizes": ()}


@pytest.mark.parametrize(
    "text, message",
    [
        ("pair: [1]", "pair: got 1 values; allowed: a list of 2 values, each a number"),
        ("pair: 1", "pair: got '1'; allowed: a list of 2 values, each a number"),
        ("sizes: [1, x]", "sizes: got 'x'; allowed: a whole number at least 1"),
        ("sizes: ['1']", "sizes: got '1'; allowed: a whole number at least 1 (without quotes)"),
        ("limit: none", "limit: got 'none'; allowed: a whole number at least 1"),
        ("limit: []", "limit: got the list '[]'; allowed: a whole number at least 1, or null"),
    ],
)
def test_wrong_lists_and_nulls_in_yaml(text, message):
    (problem,) = Reading("a", LISTS).read(parse(text, "a")).problems
    assert problem == f"a:1: {message}"


def test_lists_and_null_as_options():
    given, _ = config_options.split(["--pair", "1", "-2", "--sizes", "3", "--limit=null"])
    assert not config_options.check(given, LISTS)
    read = {name: config_values.read_all(texts, LISTS[name]) for name, texts in given.items()}
    assert read == {"pair": (1.0, -2.0), "sizes": (3,), "limit": None}
    given, _ = config_options.split(["--pair", "1"])
    assert config_options.check(given, LISTS) == [
        "--pair: got 1 values; allowed: a list of 2 values, each a number"
    ]


@pytest.mark.parametrize(
    "lists, key",
    [
        (Lists(pair=(1.0, float("nan"))), "pair"),
        (Lists(pair=(float("inf"), 1.0)), "pair"),
        (Lists(sizes=(1, 0)), "sizes"),
        (Lists(limit=0), "limit"),
    ],
)
def test_ranges_hold_inside_lists_and_optionals(lists, key):
    (problem,) = config_keys.check(lists, {})
    assert problem.startswith(f"{key}: got ")
    assert not config_keys.check(Lists(), {})


# Round trips.

WORDS = "no on ~ null true 012 1e-5 12:30 .inf = << - ? {} [] # *a &a !!x 'q' \"q\"".split()
ODD = ["a: b", " a", "a ", "a\n", "\ta", "a #b", "日本語", "🙂", "a\x85", "\r\nb", "\u2028a"]
TEXTS = st.text(min_size=1).filter(str.strip) | st.sampled_from(WORDS + ODD)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# These PyYAML can write in a form that it reads as a line break.
@example(lr=1.0, eps=1.0, seed=0, workdir="a\x85b", source="a\u2028b", remat=True, mode="gnn")
@given(
    lr=st.sampled_from([1e-5, 1e-20, 0.1, 3.0]) | POSITIVE,
    eps=POSITIVE,
    seed=st.integers(0, 2**32 - 1),
    workdir=TEXTS,
    source=TEXTS,
    remat=st.booleans(),
    mode=st.sampled_from(["ghost", "gnn"]),
)
def test_saved_configs_load_equal(tmp_path, lr, eps, seed, workdir, source, remat, mode):
    made = config.load([])
    group = dataclasses.replace(made.task.optim.ghost, lr=lr, eps=eps)
    task = dataclasses.replace(
        made.task,
        optim=dataclasses.replace(made.task.optim, ghost=group),
        data=dataclasses.replace(made.task.data, source=source),
        model=dataclasses.replace(made.task.model, remat=remat, mode=mode),
    )
    made = dataclasses.replace(made, task=task, seed=seed, workdir=workdir)
    path = tmp_path / "new" / "config.yaml"
    config.save(made, path)
    assert config.load(["--config", str(path)]) == made
    assert path.read_bytes().decode() == config.to_yaml(made)
    assert config.from_dict(json.loads(json.dumps(config.to_dict(made)))) == made
    assert [file.name for file in path.parent.iterdir()] == ["config.yaml"]


def test_to_dict_turns_tuples_to_lists_as_checkpoints_do():
    made = config.Config(system="moe", task=Lists(), workdir="a")
    assert config.to_dict(made)["task"]["sizes"] == [1, 2]


def test_saving_over_a_config_never_leaves_a_part(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text("old")

    def full(file, *args, **kwargs):
        file.write_bytes(b"a part")
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"cannot write .*config.yaml: disk full; choose"):
        config.save(config.load([]), path)
    assert path.read_text() == "old"


def test_stored_configs_of_other_versions_are_refused():
    tree = config.to_dict(config.load([]))
    tree["task"]["model"]["dropuot"] = 0.1
    tree["train"]["steps"] = "many"
    del tree["task"]["model"]["width"]
    del tree["seed"]
    with pytest.raises(UserError) as caught:
        config.from_dict(tree)
    message = str(caught.value)
    assert "4 problems" in message and "written by another version" in message
    assert "task.model.dropuot: unknown key (got '0.1'); did you mean 'task.model.drop" in message
    assert "task.model.width: missing" in message and "seed: missing" in message
    with pytest.raises(UserError, match="system: got 'old'(?s:.*)written by another version"):
        config.from_dict({**tree, "system": "old"})


def test_stored_configs_may_lack_options_that_cannot_change_results():
    tree = config.to_dict(config.load(["--train.log_every", "3"]))
    del tree["train"]["log_buffer"], tree["task"]["sampling"]
    assert config.from_dict(tree) == config.load(["--train.log_every", "3"])


# Resuming.


def test_resume_refuses_model_data_and_optimiser_kind_only():
    old = config.to_dict(config.load([]))
    changes = {
        "seed": "1", "task.model.ghosts.count": "2", "task.data.batch_size": "8",
        "task.optim.expert.kind": "adam", "task.optim.trainable": "experts_only",
        "train.steps": "50", "train.save_every": "50", "workdir": "x", "parallel.data": "1",
        "task.optim.expert.lr": "1", "task.optim.shared.schedule.kind": "linear",
        "task.optim.clip": "0", "task.sampling.top_k": "1",
    }  # fmt: skip
    new = config.to_dict(config.load([f"--{key}={value}" for key, value in changes.items()]))
    refused, changed = config.resume_conflicts(old, new)
    assert sorted(refused) == sorted(list(changes)[:5])
    assert sorted(changed) == sorted(list(changes)[5:])
    assert config.resume_conflicts(old, old) == ([], [])


def test_resume_sees_keys_of_one_side_only():
    old, new = config.to_dict(config.load([])), config.to_dict(config.load([]))
    del old["task"]["model"]["remat"], new["train"]["log_every"]
    new["curriculum"] = {"kind": None}
    refused, changed = config.resume_conflicts(old, new)
    assert sorted(refused) == ["curriculum.kind", "task.model.remat"]
    assert changed == ["train.log_every"]


@pytest.mark.parametrize("system", config.SYSTEM_CONFIGS)
def test_every_option_has_a_resume_rule_of_its_own(system):
    """The last rule is for what this version does not know."""
    *known, (last, _) = config_resume.RULES
    assert last == "*"
    for key in config_keys.types_of(config.load(["--system", system])):
        assert any(config_resume.fnmatchcase(key, pattern) for pattern, _ in known), key


# Help and start-up.


@pytest.mark.parametrize("system", config.SYSTEM_CONFIGS)
def test_help_lists_every_option_with_its_help_and_default(system, capsys, monkeypatch, write):
    monkeypatch.setenv("COLUMNS", "100")
    path = write(f"system: {system}\nseed: 77")
    with pytest.raises(SystemExit) as caught:
        config.load(["--config", path, "--train.steps", "--help"])
    assert caught.value.code == 0
    text = " ".join(re.sub(r"[│╭╮╰╯─]|-{3,}", "", capsys.readouterr().out).split())
    blocks = [block.split(" ", 2) for block in text.split(" --") if not block.startswith("help")]
    options = {name: rest for name, _, rest in blocks[1:]}
    types = config_keys.types_of(config.load(["--system", system]))
    assert set(options) == {*types, "config"}
    for name, block in options.items():
        help_line, _, default = block.partition("(default: ")
        assert help_line, f"{name} has no docstring"
        assert default, f"{name} shows no default"
    assert "(default: 77)" in options["seed"]
    assert f"(default: {path})" in options["config"]


def test_every_option_of_the_help_can_be_given():
    """What help shows as a default must be readable as the value of that option."""
    loaded = config.load([])
    flat = config_resume.flatten(config.to_dict(loaded))
    argv = [f"--{key}={str(v).lower() if isinstance(v, bool) else v}" for key, v in flat.items()]
    assert config.load(argv) == loaded


SCRIPT = """
import sys
from jaxgraph import config, errors

def main(argv):
    print(config.load(argv).seed)
    heavy = {"jax", "jaxlib", "flax", "numpy", "torch", "optax", "grain"} & set(sys.modules)
    assert not heavy, heavy

errors.run(main)
"""


def run_script(*argv: str) -> tuple[int, str, str, float]:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


def test_loading_imports_nothing_heavy():
    code, out, err, _ = run_script("--config", "configs/smoke/moe.yaml", "--seed", "9")
    assert (code, out, err) == (0, "9\n", "")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--train.step", "5"], "did you mean '--train.steps'?"),
        (["--config", "configs/meo.yaml"], "did you mean 'configs/moe.yaml'?"),
        (["--task.model.num_heads", "3"], "128 is not a multiple of num_heads 3"),
        (["--seed", "1", "--seed", "2"], "keep one"),
        (["--train.nonfinite", "stop", "--lr", "1"], "2 problems"),
    ],
)
def test_mistakes_end_a_script_with_code_2_and_one_message(argv, message):
    code, out, err, _ = run_script(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err and "Traceback" not in err


@pytest.mark.parametrize("argv, code", [(["--help"], 0), (["--train.step", "5"], 2)])
def test_help_and_errors_answer_at_once(argv, code):
    runs = [run_script(*argv) for _ in range(3)]
    assert [run[0] for run in runs] == [code] * 3
    # About 0.3 s on an idle machine.
    assert min(run[3] for run in runs) < 2


CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/**/*.yaml"))


@pytest.mark.parametrize("path", CONFIGS)
def test_shipped_configs_load_and_say_how_to_run_them(path):
    text = (ROOT / path).read_text()
    config.load(["--config", str(ROOT / path)])
    assert f"python scripts/train.py --config {path}" in text and "# expect: " in text
    assert yaml.safe_load(text)["system"] in config.SYSTEM_CONFIGS


def test_no_two_shipped_configs_share_a_run_folder():
    folders = [config.load(["--config", str(ROOT / path)]).workdir for path in CONFIGS]
    assert len(set(folders)) == len(folders)
