"""Steps of the seed's loop, of the loop that it means, and of one without its second pass."""

import torch

from tests.torch_reference.vae import fisher_ratio_trace, lambda_schedule, remap


def make_optimizer(model, lr, step_size, gamma):
    """Adam, and a schedule that is stepped once per step here."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size, gamma)


def intended_step(model, optimizer, separability, x, labels, step, clip, eps=None):
    """One pass; the separability of its latents is differentiated."""
    optimizer.zero_grad(set_to_none=True)
    out = model(x, eps)
    loss, metrics = model.compute_loss(x, step, out=out)
    weight = _weight(separability, step)
    score = fisher_ratio_trace(
        out["z"], remap(labels), separability.eps, separability.min_per_class
    )
    total = loss - weight * score if weight > 0 else loss
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return metrics | {"J": score.detach(), "loss_total": total.detach(), "grad_norm": norm}


def seed_step(
    model, optimizer, separability, x, labels, step, clip, eps=None, eps_apart=None, passes=2
):
    """As the seed: a pass without gradient whose score reaches no parameter, and numbers taken to
    the host six times. `passes=1` scores the latents of the loss's pass, detached."""
    optimizer.zero_grad(set_to_none=True)
    if passes == 2:
        with torch.no_grad():
            z = model(x, eps_apart)["z"].detach()
        loss, metrics = model.compute_loss(x, step, eps)
    else:
        out = model(x, eps)
        z = out["z"].detach()
        loss, metrics = model.compute_loss(x, step, out=out)
    if not torch.isfinite(loss).item():
        raise RuntimeError("Non-finite loss")
    weight = _weight(separability, step)
    score = 0.0
    if weight > 0:
        score = fisher_ratio_trace(
            z, remap(labels), separability.eps, separability.min_per_class
        )
        if score.item() > 0:
            loss = loss - weight * score
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    shown = {name: float(metrics[name]) for name in ("loss", "nll", "kl")}
    for name in ("loss", "nll", "kl"):
        metrics[name].item()
    return shown | {"J": float(score)}


def _weight(separability, step):
    return lambda_schedule(
        step, separability.weight, separability.warmup_steps, separability.ramp_steps
    )
