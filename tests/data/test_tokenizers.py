"""Every tokenizer gives text back, never ends a passage by its text, and survives a run folder."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgraph.data.subword import EOS, train_bpe
from jaxgraph.data.text import load_passages
from jaxgraph.data.tokenizers import ByteTokenizer, Tokenizer, load_tokenizer, tokenizer_from_json
from jaxgraph.errors import UserError

TEXTS = load_passages("sample").texts[:100]


def byte_level() -> dict:
    """A Hugging Face tokenizer.json without an end."""
    model = tokenizers.ByteLevelBPETokenizer()
    model.train_from_iterator(TEXTS, vocab_size=400, show_progress=False)
    return json.loads(model.to_str())


def with_end(tokenizer: dict) -> dict:
    model = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    model.add_special_tokens(["<|im_start|>", "</s>"])
    model.enable_truncation(5)
    model.enable_padding(length=9)
    return json.loads(model.to_str())


@pytest.fixture(params=["bytes", "bpe", "file"], scope="module")
def tokenizer(request, tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGRAPH_ASSETS", str(folder / "assets"))
        (folder / "tokenizer.json").write_text(json.dumps(with_end(byte_level())))
        specs = {"bytes": "bytes", "bpe": "bpe:500", "file": str(folder / "tokenizer.json")}
        return load_tokenizer(specs[request.param], TEXTS)


@given(text=st.text() | st.sampled_from([EOS, "</s>", "a<|im_start|>b", "naïve 東京 🙂\0\r\n"]))
@settings(deadline=None)
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode([*ids, tokenizer.eos_id]) == text
    assert tokenizer.eos_id not in ids and all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.encode_many([text, "x"]) == [ids, tokenizer.encode("x")]


def test_run_folder_gives_the_same_tokenizer(tokenizer, tmp_path):
    saved = tokenizer.to_json()
    (tmp_path / "tokenizer.json").write_text(saved, encoding="utf-8")
    for back in (tokenizer_from_json(saved), load_tokenizer(str(tmp_path / "tokenizer.json"), [])):
        assert isinstance(back, Tokenizer)
        for field in ("name", "vocab_size", "eos_id", "fingerprint"):
            assert getattr(back, field) == getattr(tokenizer, field)
        assert back.encode_many(TEXTS) == tokenizer.encode_many(TEXTS)


def test_bytes():
    tokenizer = load_tokenizer("bytes", [])
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (257, 256)
    assert tokenizer.encode("aé") == [97, 0xC3, 0xA9]
    assert tokenizer.decode([97, 0xC3, 256]) == "a\N{REPLACEMENT CHARACTER}"


def test_trained_bpe_is_a_function_of_text_and_size(monkeypatch, tmp_path):
    first = train_bpe(TEXTS, 500)
    assert (first.name, first.vocab_size, first.eos_id) == ("bpe:500", 500, 499)
    assert len(first.encode(TEXTS[0])) < 0.7 * len(TEXTS[0])
    monkeypatch.setenv("JAXGRAPH_ASSETS", str(tmp_path / "other" / "assets"))
    assert train_bpe(TEXTS, 500).to_json() == first.to_json()
    assert train_bpe(TEXTS, 501).fingerprint != first.fingerprint
    assert train_bpe(TEXTS[1:], 500).fingerprint != first.fingerprint


def test_trained_bpe_is_cached(root, monkeypatch):
    first = train_bpe(TEXTS, 500)
    monkeypatch.setattr(tokenizers.Tokenizer, "train_from_iterator", None)
    assert train_bpe(TEXTS, 500).fingerprint == first.fingerprint
    assert [p.name[:4] for p in (root.parent / "tokens").iterdir()] == ["bpe-"]


def test_bpe_larger_than_its_text_is_an_error():
    with pytest.raises(UserError, match=r"'bpe:900': .* yields only (\d+) ids; use bpe:\1 or less"):
        train_bpe(TEXTS[:3], 900)


@pytest.mark.parametrize("spec", ["byte", "bpe:", "bpe:many", "gpt-2", ""])
def test_unknown_tokenizer_lists_the_known_ones(spec):
    with pytest.raises(UserError, match="unknown tokenizer .* bytes, gpt2, bpe:SIZE, or the path"):
        load_tokenizer(spec, TEXTS)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "'.*a.json' is not JSON"),
        ("[]", "'.*a.json' is no tokenizer.json"),
        ('{"version": 1, "alphabet": []}', "'.*a.json' is no tokenizer.json"),
        (json.dumps(byte_level()), "'.*a.json' has no token to end a passage .*<|endoftext|>"),
    ],
)
def test_bad_tokenizer_files(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_tokenizer(str(tmp_path / "a.json"), [])


def test_missing_tokenizer_file():
    with pytest.raises(UserError, match="'none.json' cannot be read: .*No such file"):
        load_tokenizer("none.json", [])


def test_gpt2_reads_the_two_files_of_its_asset(make_asset):
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*letters, "ab", EOS])}
    make_asset(
        "gpt2-bpe",
        **{"encoder.json": json.dumps(vocab), "vocab.bpe": "#version: 0.2\na b\n"},
    )
    tokenizer = load_tokenizer("gpt2", [])
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.eos_id) == ("gpt2", 258, 257)
    assert tokenizer.encode("aba") == [256, vocab["a"]]
    assert tokenizer.eos_id not in tokenizer.encode(EOS)


def test_gpt2_without_its_asset():
    with pytest.raises(UserError, match="run: python scripts/fetch_assets.py gpt2-bpe"):
        load_tokenizer("gpt2", [])


def test_real_gpt2(real_asset):
    real_asset("gpt2-bpe")
    tokenizer = load_tokenizer("gpt2", [])
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (50257, 50256)
    assert tokenizer.encode("Hello world") == [15496, 995]
    text = f"naïve 東京 🙂 {EOS}\n\tdef f(x):"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_protocol():
    assert isinstance(ByteTokenizer(), Tokenizer)
