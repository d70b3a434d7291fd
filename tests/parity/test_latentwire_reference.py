"""LatentWire against PyTorch: five steps of ours and of the reference, by 2K + 3 passes or one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jaxgraph.interop.cases.latentwire import load
from jaxgraph.interop.rules import latentwire as rules
from jaxgraph.interop.rules.lm import params_from_torch
from jaxgraph.interop.torch import to_torch
from jaxgraph.latentwire.config import Curriculum, Data, Encoder, LatentWire, Losses, Optim
from jaxgraph.latentwire.sources import Source
from jaxgraph.latentwire.task import LatentWireTask
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.load import Lm
from jaxgraph.lm.load.tokenizer import LmTokenizer
from jaxgraph.train.config import Group, Schedule
from tests.torch_reference import latentwire as reference

WIDTH, SLOTS, ROWS, K, STEPS, LR = 16, 3, 4, 3, 5, 1e-3
ARCH = Architecture(29, 12, 2, 2, 1, 6, 20, tied=True)


@pytest.fixture(scope="module")
def theirs():
    """Frozen model, encoder and adapter of the reference, and a batch."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=29, hidden_size=12, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=6, rms_norm_eps=1e-5,
        tie_word_embeddings=True, initializer_range=0.4,
    )  # fmt: skip
    lm = LlamaForCausalLM(config).eval().requires_grad_(False)
    encoder = reference.Encoder(WIDTH, 2, 2, SLOTS)
    adapter = reference.Adapter(WIDTH, 12, SLOTS)
    rng = np.random.default_rng(0)
    batch = {
        "bytes": rng.integers(0, 256, (ROWS, 9)), "text": rng.integers(0, 29, (ROWS, 6)),
        "answer": rng.integers(0, 29, (ROWS, 5)),
        "bytes_mask": np.arange(9)[None] < np.array([[9], [4], [1], [7]]),
    }  # fmt: skip
    return lm, encoder, adapter, batch


def loss_of(way, lm, encoder, adapter, batch):
    tensors = {key: torch.from_numpy(array) for key, array in batch.items()}
    rms = lm.model.embed_tokens.weight.square().mean().sqrt()
    z = encoder(tensors["bytes"], tensors["bytes_mask"])
    prompt = reference.calibrate(adapter(z), rms)
    loss = way(lm, prompt, tensors["text"], tensors["answer"], K)
    return loss + reference.WEIGHTS["scale"] * (adapter.scale - 1).square().sum()


@pytest.fixture(scope="module")
def ours(theirs):
    """Task, state and batch with the reference's weights."""
    lm, encoder, adapter, batch = theirs
    arrays = lambda module: {k: v.numpy() for k, v in module.state_dict().items()}  # noqa: E731
    frozen = arrays(lm)
    del frozen["lm_head.weight"]
    group = Group("adamw", lr=LR, weight_decay=0.01, decay="all", schedule=Schedule("constant"))
    config = LatentWire(
        lms=("one",), encoder=Encoder(WIDTH, 2, 2, 4, SLOTS),
        losses=Losses(autoscale=False, curriculum=Curriculum(first_steps=K, last_steps=K)),
        data=Data(anchor="", bos="no", batch_size=ROWS), optim=Optim(group, clip=1.0),
    )  # fmt: skip
    words = tokenizers.models.WordLevel({"<end>": 0}, unk_token="<end>")
    tokenizer = LmTokenizer(tokenizers.Tokenizer(words), None, 0)
    params = jax.tree.map(jnp.asarray, params_from_torch(ARCH, frozen))
    task = LatentWireTask(
        config, total_steps=10**6, seed=0, lms={"one": Lm(Llama(ARCH), params, tokenizer)},
        source=Source.__new__(Source),  # rows are drawn here
    )  # fmt: skip
    objective = task.objective
    own = {
        "encoder": load(
            objective.encoder, rules.interlingua(("one",)), arrays(encoder),
            {"ids": jnp.zeros((1, 2), jnp.int32)},
        ),
        "adapter_one": load(
            objective.adapters["one"], rules.adapter(), arrays(adapter),
            {"z": jnp.zeros((1, SLOTS, WIDTH))},
        ),
    }  # fmt: skip
    state = jax.eval_shape(task.init, jax.random.key(0))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state.replace(key=None))
    state = state.replace(params=own, key=jax.random.key(0))
    ids = {key: batch[key].astype(np.int32) for key in ("bytes", "text", "answer")}
    every = {name: np.ones(ids[name].shape, bool) for name in ("text", "answer")}
    given = {
        "bytes": ids["bytes"], "bytes_mask": batch["bytes_mask"], "mask": np.ones(4, np.float32),
        "one/answer": ids["answer"], "one/answer_mask": every["answer"],
        "one/first": ids["answer"][:, 0], "one/text": ids["text"], "one/text_mask": every["text"],
    }  # fmt: skip
    return task, state, jax.tree.map(jnp.asarray, given)


def test_passes_of_the_original_and_slices_of_one_are_one_loss(theirs):
    many, one = (loss_of(way, *theirs) for way in (reference.original_way, reference.one_pass))
    assert float(many) == pytest.approx(float(one), rel=1e-6)


def test_five_steps(theirs, ours):
    lm, encoder, adapter, batch = theirs
    task, state, given = ours
    params = [*encoder.parameters(), *adapter.parameters()]
    optimizer = torch.optim.AdamW(params, lr=LR, weight_decay=0.01)
    step = jax.jit(task.train_step)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(reference.original_way, lm, encoder, adapter, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        state, metrics = step(state, task.frozen(), given)
        assert float(metrics["loss"]) == pytest.approx(loss.item(), abs=2e-5)
    tables = {"encoder": rules.interlingua(("one",)), "adapter_one": rules.adapter()}
    for (part, table), module in zip(tables.items(), (encoder, adapter), strict=True):
        expected = {key: value.numpy() for key, value in module.state_dict().items()}
        for key, tensor in to_torch(state.params[part], table).items():
            if key.endswith("in_proj_bias"):  # keys' biases have no true gradient
                third = len(tensor) // 3
                tensor[third : 2 * third] = expected[key][third : 2 * third]
            if key not in ("scale", "length_proj.0.weight", "length_proj.0.bias"):
                np.testing.assert_allclose(tensor, expected[key], atol=1e-4, err_msg=key)
