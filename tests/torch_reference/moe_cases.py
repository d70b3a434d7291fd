"""Golden cases of any size, in the format of the recorded ones, made with our PyTorch reference."""

import json

import numpy as np
import torch

from jaxgraph.interop.rules.moe_config import config_to_torch
from tests.torch_reference.moe import LanguageModel
from tests.torch_reference.moe_training import model_loss, train


def make_model(config, seed):
    """A model whose biases and norms are no zeros and ones."""
    torch.manual_seed(seed)
    model = LanguageModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.1 if parameter.ndim == 1 else 0.05
            parameter += scale * torch.randn_like(parameter)
    return model


def make_batch(config, seed, *shape):
    """Random tokens, and a mask under which each second row ends in padding."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, config.vocab_size - 1, shape, generator=generator)
    mask = torch.ones_like(tokens)
    mask[..., 1::2, -3:] = 0
    return torch.where(mask == 1, tokens, config.vocab_size - 1), mask


def state_arrays(model, prefix="param/"):
    return {prefix + key: value.numpy().copy() for key, value in model.state_dict().items()}


def grad_arrays(model):
    """Gradients, and the names of parameters that have none."""
    named = dict(model.named_parameters())
    grads = {f"grad/{k}": p.grad.numpy() for k, p in named.items() if p.grad is not None}
    return grads, [k for k, p in named.items() if p.grad is None]


def trace_arrays(config, logits, trace, loss):
    """What a forward pass computed, by the names of the cases."""
    out = {"embedded": trace["embedded"], "final_norm": trace["hidden"]}
    for i, layer in enumerate(trace["layers"]):
        nodes = [f"expert{e}" for e in range(config.num_experts)]
        nodes += [f"ghost{g}" for g in range(config.ghosts.count)]
        here = dict(zip(nodes, layer["outputs"].unbind(2), strict=True))
        here |= {f"hconv{j}": x for j, x in enumerate(layer.get("convolutions", []))}
        here |= {name: layer[name] for name in ("coupled", "hidden") if name in layer}
        out |= {f"layer{i}/{name}": value for name, value in here.items()}
    out |= {"logits": logits, "loss": loss}
    return {name: value.detach().numpy() for name, value in out.items()}


def forward_case(config, seed, batch=3, length=11, prefix="out/"):
    """A case of kind `forward`, or with `prefix="out/isolated/"` of kind `collision`."""
    model = make_model(config, seed)
    tokens, mask = make_batch(config, seed, batch, length)
    logits, trace = model(tokens, mask)
    loss = model_loss(logits, tokens * mask)
    loss.backward()
    grads, without = grad_arrays(model)
    outputs = trace_arrays(config, logits, trace, loss)
    arrays = {f"{prefix}{name}": value for name, value in outputs.items()}
    arrays |= {"in/input_ids": tokens.numpy(), "in/attention_mask": mask.numpy()}
    kind = "forward" if prefix == "out/" else "collision"
    return state_arrays(model) | arrays | grads, {"kind": kind, "grad_none": without}


def ghost_case(config, seed, steps=7, batch=2, length=8):
    """A case of kind `ghost_sequence`."""
    model = make_model(config, seed)
    tokens, masks = make_batch(config, seed, steps, batch, length)
    rows = {name: [] for name in ("logits_seq", "saturation_level", "activation_levels")}
    rows["ghost_state"] = []
    for ids, mask in zip(tokens, masks, strict=True):
        model.zero_grad()
        logits, trace = model(ids, mask)
        loss = model_loss(logits, ids * mask)
        loss.backward()
        controllers = [layer.controller for layer in model.model_layers]
        scores = [layer["scores"] for layer in trace["layers"]]
        rows["logits_seq"].append(logits.detach().numpy())
        rows["saturation_level"].append([a * b for a, b in scores])
        rows["activation_levels"].append([c.levels.numpy().copy() for c in controllers])
        rows["ghost_state"].append([list(c.phase) for c in controllers])
    grads, without = grad_arrays(model)
    arrays = {f"out/{name}": np.array(values) for name, values in rows.items()}
    last = trace_arrays(config, logits, trace, loss)
    arrays |= {f"out/last/{name}": value for name, value in last.items()}
    arrays |= {"in/input_ids": tokens.numpy(), "in/attention_mask": masks.numpy()}
    return state_arrays(model) | arrays | grads, {"kind": "ghost_sequence", "grad_none": without}


def train_case(config, seed, steps=8, batch=2, length=9, **options):
    """A case of kind `train` with the loops `legacy` and `standard`."""
    start = state_arrays(make_model(config, seed))
    tokens, masks = make_batch(config, seed, steps, batch, length)
    arrays = start | {"in/input_ids": tokens.numpy(), "in/attention_mask": masks.numpy()}
    meta = {"kind": "train"}
    for loop in ("legacy", "standard"):
        model = make_model(config, seed)
        record = train(model, tokens, masks, loop=loop, **options)
        arrays |= {f"out/{loop}/{k}": np.array(v) for k, v in record.items() if v}
        final = {k: v.numpy() for k, v in model.state_dict().items()}
        same = [k for k, v in final.items() if np.array_equal(v, start[f"param/{k}"])]
        arrays |= {f"out/{loop}/final/{k}": v for k, v in final.items() if k not in same}
        meta[f"{loop}_unchanged"] = same
        if config.ghosts.count:
            levels = [layer.controller.levels.numpy() for layer in model.model_layers]
            arrays[f"out/{loop}/final_levels"] = np.array(levels)
    return arrays, meta


def settings(config, **others):
    """The original's config of a model of ours, with training options."""
    tree = config_to_torch(config)
    ghost = {key: others.pop(key) for key in list(others) if key.startswith("ghost_")}
    return tree | others | {"ghost": tree["ghost"] | ghost}


def write_case(path, arrays, meta, config):
    """Writes a case; `config` are the original's settings."""
    text = np.array(json.dumps(meta | {"config": config}))
    np.savez(path, config=text, **arrays)
    return path
