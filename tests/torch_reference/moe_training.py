"""Losses, optimiser and loops of the seed's geometric MoE in PyTorch (spec/moe.md, 4.4 and 4.5)."""

import torch
import torch.nn.functional as F


def model_loss(logits, labels):
    """Shifted inside; label 0 does not count."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=0)


def make_optimizer(model, lr, ghost_lr):
    """AdamW over the experts and the ghosts, and over nothing else (spec D2)."""
    experts = [p for name, p in model.named_parameters() if ".primary_experts." in name]
    ghosts = [p for name, p in model.named_parameters() if ".ghost_experts." in name]
    groups = [{"params": experts, "lr": lr}]
    groups += [{"params": ghosts, "lr": ghost_lr}] if ghosts else []
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


def train(model, tokens, masks, *, loop, lr, ghost_lr, coupling, period):
    """Runs a loop over the batches; what a golden case of kind `train` records.

    `legacy`: model loss without padding, ghost rates coupled to the primaries' schedule.
    `standard`: shifted outside, padding counts, every group follows the cosine.
    """
    optimizer = make_optimizer(model, lr, ghost_lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=period)
    record = {"loss": [], "lr_used": [], "primary_lr_after": [], "ghost_lrs_after": []}
    for ids, mask in zip(tokens, masks, strict=True):
        record["lr_used"].append([group["lr"] for group in optimizer.param_groups])
        if loop == "legacy":
            loss = model_loss(model(ids, mask)[0], ids * mask)
        else:
            logits, _ = model(ids[:, :-1], mask[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        record["loss"].append(loss.item())
        record["primary_lr_after"].append(optimizer.param_groups[0]["lr"])
        if loop == "legacy" and len(optimizer.param_groups) > 1:
            slowed = 1 - optimizer.param_groups[0]["lr"] / lr if coupling == "inverse" else 1
            levels = model.model_layers[0].controller.levels
            rates = [ghost_lr * slowed * level.item() for level in levels]
            optimizer.param_groups[1]["lr"] = rates[0]  # one rate for all ghosts
            record["ghost_lrs_after"].append(rates)
    return record
