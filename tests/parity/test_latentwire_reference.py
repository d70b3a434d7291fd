"""LatentWire against PyTorch: five steps of ours and of the reference, by 2K + 3 passes or one."""

import copy
from dataclasses import replace

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
from jaxgraph.latentwire.config import Curriculum, Data, Encoder, Gist, LatentWire, Losses, Optim
from jaxgraph.latentwire.sources import Source
from jaxgraph.latentwire.task import LatentWireTask
from jaxgraph.lm.config import Architecture
from jaxgraph.lm.llama import Llama
from jaxgraph.lm.load import Lm
from jaxgraph.lm.load.tokenizer import LmTokenizer
from jaxgraph.train.config import Group, Schedule
from tests.torch_reference import latentwire as reference

WIDTH, SLOTS, ROWS, K, STEPS, LR = 16, 3, 4, 3, 5, 1e-3
PLAIN = Losses(autoscale=False, curriculum=Curriculum(first_steps=K, last_steps=K))
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


def arrays(module):
    return {key: value.numpy() for key, value in module.state_dict().items()}


def ours(theirs, losses=PLAIN, refiner=None, gist=None):
    """Task, state and batch with the reference's weights."""
    lm, encoder, adapter, batch = theirs
    frozen = arrays(lm)
    del frozen["lm_head.weight"]
    group = Group("adamw", lr=LR, weight_decay=0.01, decay="all", schedule=Schedule("constant"))
    config = LatentWire(
        lms=("one",), losses=losses, encoder=Encoder(
            WIDTH, 2, 2, 4, SLOTS, refiner=2 if refiner else 0, refiner_heads=4
        ),
        data=Data(anchor="", bos="no", batch_size=ROWS), optim=Optim(group, clip=1.0),
    )  # fmt: skip
    words = tokenizers.models.WordLevel({"<end>": 0}, unk_token="<end>")
    tokenizer = LmTokenizer(tokenizers.Tokenizer(words), None, 0)
    params = jax.tree.map(jnp.asarray, params_from_torch(ARCH, frozen))
    task = LatentWireTask(
        config, total_steps=10**6, seed=0, lms={"one": Lm(Llama(ARCH), params, tokenizer)},
        source=Source.__new__(Source),  # rows are drawn here
    )  # fmt: skip
    modules = task.modules
    own = {
        "encoder": load(
            modules.encoder, rules.interlingua(("one",)), arrays(encoder),
            {"ids": jnp.zeros((1, 2), jnp.int32)},
        ),
        "adapter_one": load(
            modules.adapters["one"], rules.adapter(), arrays(adapter),
            {"z": jnp.zeros((1, SLOTS, WIDTH))},
        ),
    }  # fmt: skip
    z = {"z": jnp.zeros((1, SLOTS, WIDTH))}
    if refiner:
        own["refiner"] = load(modules.refiner, rules.refiner(), arrays(refiner), z)
        own["gist_one"] = load(modules.gists["one"], rules.gist(), arrays(gist), z)
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


def compare(params, tables, modules):
    """Weights of ours with those of the reference's modules, without what has no true gradient."""
    for (part, table), module in zip(tables.items(), modules, strict=True):
        expected = arrays(module)
        for key, tensor in to_torch(params[part], table).items():
            if key.endswith("in_proj_bias"):  # keys' biases
                third = len(tensor) // 3
                tensor[third : 2 * third] = expected[key][third : 2 * third]
            if key not in ("scale", "length_proj.0.weight", "length_proj.0.bias"):
                np.testing.assert_allclose(tensor, expected[key], atol=1e-4, err_msg=key)


def test_five_steps(theirs):
    lm, encoder, adapter, batch = theirs = copy.deepcopy(theirs)
    task, state, given = ours(theirs)
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
    compare(state.params, tables, (encoder, adapter))


def test_three_steps_of_states_alignment_refiner_and_gist(theirs):
    lm, encoder, adapter, batch = theirs = copy.deepcopy(theirs)
    torch.manual_seed(1)
    refiner, head = reference.Refiner(WIDTH, 2, 4), reference.GistHead(WIDTH, 12, 8, 20, 2)
    modules = encoder, adapter, refiner, head
    losses = replace(
        PLAIN, states=0.7, state_layers=(0, 2), answer_align=0.4,
        gist=Gist(0.6, tokens=8, layers=2, hidden=20, dropped=0.0),
    )  # fmt: skip
    task, state, given = ours(theirs, losses, refiner, head)
    params = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(params, lr=LR, weight_decay=0.01)
    step = jax.jit(task.train_step)
    tensors = {key: torch.from_numpy(array) for key, array in batch.items()}
    text, answer = tensors["text"], tensors["answer"]
    rms = lm.model.embed_tokens.weight.square().mean().sqrt()
    for _ in range(3):
        optimizer.zero_grad()
        z = refiner(encoder(tensors["bytes"], tensors["bytes_mask"]))
        prompt = reference.calibrate(adapter(z), rms)
        terms = {
            "state": 0.7 * reference.state_distance(lm, prompt, text, answer, K, (0, 2)),
            "latent_prefix_align": 0.4 * reference.answer_alignment(lm, prompt, answer),
            "gist": 0.6 * reference.gist(lm, head, z, text),
        }
        loss = reference.one_pass(lm, prompt, text, answer, K) + sum(terms.values())
        loss = loss + reference.WEIGHTS["scale"] * (adapter.scale - 1).square().sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        state, metrics = step(state, task.frozen(), given)
        assert float(metrics["loss"]) == pytest.approx(loss.item(), abs=2e-5)
        for key, weight in (("state", 0.7), ("latent_prefix_align", 1.0), ("gist", 0.6)):
            found = weight * float(metrics[f"one/{key}"])
            assert found == pytest.approx(terms[key].item(), abs=2e-5), key
    tables = {
        "encoder": rules.interlingua(("one",)), "adapter_one": rules.adapter(),
        "refiner": rules.refiner(), "gist_one": rules.gist(),
    }  # fmt: skip
    compare(state.params, tables, modules)
