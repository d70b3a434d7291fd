"""Golden cases of any size, in the format of the recorded ones, made with our PyTorch reference."""

import json

import numpy as np
import torch

from tests.torch_reference.vae import (
    MixtureVae,
    fisher_ratio_trace,
    lambda_schedule,
    log_likelihood,
    remap,
)
from tests.torch_reference.vae_training import intended_step, make_optimizer, seed_step

KINDS = {"real": "real", "complex": "complex", "free_bits": "real_freebits"}


def make_model(config, objective, seed):
    """A model in which no bias is 0 and no norm's gain 1."""
    torch.manual_seed(seed)
    model = MixtureVae(config, objective)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def make_inputs(config, latents, seed, *shape, labels=(0, 1, 2)):
    """Noisy bits, labels, and two draws of noise."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (*shape, config.inputs)) + 0.05 * rng.normal(
        size=(*shape, config.inputs)
    )
    x[..., 0, 0] = 1.9
    arrays = {
        "x": x.astype(np.float32),
        "labels": rng.choice(labels, shape).astype(np.int64),
        "eps": rng.normal(size=(*shape, latents)).astype(np.float32),
        "eps_cached": rng.normal(size=(*shape, latents)).astype(np.float32),
    }
    return {f"in/{name}": value for name, value in arrays.items()}


def state_arrays(model, prefix):
    return {f"{prefix}/{key}": value.numpy().copy() for key, value in model.state_dict().items()}


def latents_of(model):
    return model.latent * (2 if model.complex else 1)


def forward_case(config, objective, separability, seed, batch=18, step=700, **inputs):
    """A case of one batch, in float32 and float64."""
    model = make_model(config, objective, seed).eval()
    arrays = make_inputs(config, latents_of(model), seed, batch, **inputs)
    arrays |= {"in/step": np.int64(step)} | state_arrays(model, "param")
    for suffix, dtype in (("", torch.float32), ("64", torch.float64)):
        model = model.to(dtype)
        out, grads = evaluate(model, arrays, separability, step, dtype)
        wanted = out if not suffix else {
            name: value for name, value in out.items()
            if name in ("mu", "logvar", "z", "pi_logits", "nll", "kl", "loss", "sep_J")
        }  # fmt: skip
        arrays |= {f"out{suffix}/{name}": value for name, value in wanted.items()}
        for variant, named in grads.items():
            arrays |= {f"grad{suffix}{variant}/{key}": grad for key, grad in named.items()}
    meta = {"sep": describe(separability) | {"base_lambda": separability.weight}}
    return arrays, meta


def evaluate(model, arrays, separability, step, dtype):
    """What a case expects, and gradients of both objectives."""
    x, eps, eps_cached = (
        torch.from_numpy(arrays[f"in/{name}"]).to(dtype) for name in ("x", "eps", "eps_cached")
    )
    y = remap(torch.from_numpy(arrays["in/labels"]))
    options = separability.eps, separability.min_per_class
    out = model(x, eps)
    loss, metrics = model.compute_loss(x, step, out=out)
    weight = lambda_schedule(
        step, separability.weight, separability.warmup_steps, separability.ramp_steps
    )
    score = fisher_ratio_trace(out["z"], y, *options)
    cached = model(x, eps_cached)["z"]
    found = {name: out[name] for name in ("mu", "logvar", "z", "pi_logits")}
    found |= {name: metrics[name] for name in ("loss", "nll", "kl")}
    found |= {"sep_J": score, "loss_total": loss - weight * score}
    found["sep_J_cached"] = fisher_ratio_trace(cached, y, *options)
    found["nll_ps"] = -log_likelihood(x, out["pi_logits"], model.config.likelihood.sigma)
    found = {name: value.detach().numpy() for name, value in found.items()}
    found |= {"beta": model.beta(step), "sep_lambda": weight, "y_remapped": y.numpy()}
    grads = {}
    for variant, total in (("", loss), ("_total", loss - weight * score)):
        model.zero_grad()
        total.backward(retain_graph=True)
        grads[variant] = {
            key: p.grad.numpy().copy() for key, p in model.named_parameters() if p.grad is not None
        }
    return found, grads


def train_case(config, objective, separability, seed, steps=7, batch=18, lr=2e-3, clip=0.7):
    """Both loops over the same batches; the learning rate is halved every three steps."""
    first = make_model(config, objective, seed)
    arrays = make_inputs(config, latents_of(first), seed, steps, batch) | state_arrays(
        first, "param0"
    )
    x, labels, eps, apart = (
        torch.from_numpy(arrays[f"in/{name}"]) for name in ("x", "labels", "eps", "eps_cached")
    )
    for prefix, params in (("out", "param"), ("intended", "param_intended")):
        model = make_model(config, objective, seed)
        optimizer, schedule = make_optimizer(model, lr, 3, 0.5)
        rows = []
        for t in range(steps):
            shared = (model, optimizer, separability, x[t], labels[t], t, clip, eps[t])
            rate = optimizer.param_groups[0]["lr"]
            row = intended_step(*shared) if prefix == "intended" else seed_step(*shared, apart[t])
            schedule.step()
            rows.append({name: float(value) for name, value in row.items()} | {"lr": rate})
        names = {"loss", "nll", "kl", "lr", "loss_total"} & rows[0].keys()
        for name in names:
            arrays[f"{prefix}/{name}"] = np.array([row[name] for row in rows])
        arrays |= state_arrays(model, params)
    return arrays, {
        "sep": describe(separability) | {"lambda": separability.weight},
        "T": steps, "epochs": 1, "per_epoch": steps, "lr": lr, "clip": clip,
        "adam": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
        "steplr": {"step_size": 3, "gamma": 0.5, "unit": "step"},
    }  # fmt: skip


def describe(separability):
    names = ("warmup_steps", "ramp_steps", "eps", "min_per_class")
    return {name: getattr(separability, name) for name in names}


def write_case(path, arrays, meta, config, objective):
    """Writes a case with the original's nested settings."""
    model = {
        "num_layers": config.num_layers, "hidden_dimension": config.max_width,
        "dropout": config.dropout, "input_dimension": config.inputs,
    }  # fmt: skip
    others = {
        "beta_max": objective.beta, "beta_warmup_steps": objective.beta_warmup_steps,
        "activation": config.activation, "layernorm": config.layernorm,
    }  # fmt: skip
    cfg = {"crypto": {"noise_sigma": config.likelihood.sigma}, "model": model}
    if config.kind == "free_bits":
        cfg["vae"] = others | {"free_bits": objective.free_bits}
    else:
        cfg["model"] = model | others
    meta = meta | {"kind": KINDS[config.kind], "cfg": cfg, "D": config.inputs}
    np.savez(path, config=np.array(json.dumps(meta)), **arrays)
    return path
