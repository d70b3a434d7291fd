"""The same numbers as transformers on random folders that it wrote."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from jaxgraph.lm.cache import positions_of
from jaxgraph.lm.config import Sampling
from jaxgraph.lm.generate import generate
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.load.hugging_face import load_folder

SIZES = {
    "vocab_size": 41, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "initializer_range": 0.4,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 300.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=16, rope_parameters=LLAMA3)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
}
IDS = np.random.default_rng(0).integers(1, 41, (3, 9), dtype=np.int32)
MASK = np.arange(9) >= np.array([[0], [3], [5]])


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """transformers' model, ours, and our parameters out of its folder, in shards."""
    torch.manual_seed(0)
    theirs = MODELS[request.param]().eval()
    for name, weight in theirs.named_parameters():  # biases and norms matter too
        if weight.ndim == 1:
            torch.nn.init.uniform_(weight, 0.5, 1.5) if "norm" in name else weight.data.normal_()
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    arch, params = load_folder(folder)
    assert bool(arch.rope_divisors) == (request.param == "llama")
    return theirs, Llama(arch), params


def test_logits_and_hidden_states(pair):
    theirs, model, params = pair
    mask = torch.tensor(MASK)
    with torch.no_grad():
        expected = theirs(
            torch.tensor(IDS), attention_mask=mask, output_hidden_states=True,
            position_ids=torch.clamp(mask.cumsum(1) - 1, min=0),
        )  # fmt: skip

    @jax.jit
    def run(params, ids, mask):
        out = model.apply(
            {"params": params}, ids, mask, positions=positions_of(mask), keep_hidden=True
        )
        return out.hidden_states, model.apply({"params": params}, out.hidden, method="logits")

    states, logits = run(params, IDS, MASK)
    assert logits.dtype == jnp.float32
    seen = MASK[..., None]
    np.testing.assert_allclose(logits * seen, expected.logits.numpy() * seen, atol=2e-5, rtol=2e-5)
    assert len(states) == len(expected.hidden_states) == 3
    for ours, their in zip(states, expected.hidden_states, strict=True):
        np.testing.assert_allclose(ours * seen, their.numpy() * seen, atol=2e-5, rtol=2e-5)


def test_greedy_ids_of_left_padded_prompts(pair):
    theirs, model, params = pair
    stop = 7
    expected = theirs.generate(
        torch.tensor(IDS), attention_mask=torch.tensor(MASK), max_new_tokens=12, do_sample=False,
        eos_token_id=stop, pad_token_id=0,
    )[:, IDS.shape[1]:].numpy()  # fmt: skip
    ours = generate(
        model, params, jnp.asarray(IDS), jnp.asarray(MASK), sampling=Sampling(12), stop_ids=(stop,)
    )
    # transformers keeps the stop id that ends a row.
    lengths = [list(row).index(stop) if stop in row else 12 for row in expected]
    assert ours.lengths.tolist() == lengths
    for row, (tokens, length) in enumerate(zip(ours.tokens, lengths, strict=True)):
        assert tokens[:length].tolist() == expected[row, :length].tolist()
        assert not tokens[length:].any()
