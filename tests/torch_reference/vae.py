"""The seed's mixture VAE in PyTorch (spec/vae.md, sections 2 to 10), for comparison and timing."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from jaxgraph.vae.widths import model_widths

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "softplus": F.softplus}


class Activation(nn.Module):
    """Takes up a number in the list of modules, as the seed's does."""

    def __init__(self, name):
        super().__init__()
        self.function = ACTIVATIONS[name]

    def forward(self, x):
        return self.function(x)


class Magnitude(Activation):
    """Of pairs laid out [real | imaginary]."""

    def forward(self, x):
        real, imag = x.chunk(2, -1)
        r = torch.sqrt(real**2 + imag**2 + 1e-6)
        s = self.function(r) / (r + 1e-6)
        return torch.cat([real * s, imag * s], -1)


class ComplexLinear(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.A = nn.Linear(inputs, outputs)
        self.B = nn.Linear(inputs, outputs, bias=False)
        self.c = nn.Parameter(torch.zeros(outputs))
        self.d = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        real, imag = x.chunk(2, -1)
        return torch.cat([
            self.A(real) - self.B(imag) + self.c, self.A(imag) + self.B(real) + self.d
        ], -1)  # fmt: skip


class RealTrunk(nn.Module):
    def __init__(self, config, inputs, widths):
        super().__init__()
        self.net = nn.Sequential(*modules(config, inputs, widths, nn.Linear, Activation))

    def forward(self, x):
        return self.net(x)


def modules(config, inputs, widths, linear, activation):
    found = []
    for width in widths:
        found.append(linear(inputs, width))
        if linear is nn.Linear and config.layernorm:
            found.append(nn.LayerNorm(width))
        found.append(activation(config.activation))
        if config.dropout > 0:
            found.append(nn.Dropout(config.dropout))
        inputs = width
    return found


class MixtureVae(nn.Module):
    """Real, free-bits or complex; built at once, where the seed builds at the first batch."""

    def __init__(self, config, objective):
        super().__init__()
        self.config, self.objective = config, objective
        widths = model_widths(config)
        self.latent = widths.latent
        parts = 2 if config.kind == "complex" else 1
        head = "_" if config.kind == "free_bits" else ""
        self.heads = f"{head}enc_head", f"{head}dec_head"
        encoded = parts * (widths.encoder or (config.inputs,))[-1]
        decoded = parts * (widths.decoder or (widths.latent,))[-1]
        heads = nn.Linear(encoded, 2 * parts * widths.latent), nn.Linear(decoded, config.inputs)
        sizes = (config.inputs, widths.encoder), (widths.latent, widths.decoder)
        if config.kind == "complex":
            self.enc_layers, self.dec_layers = (
                nn.ModuleList(modules(config, *size, ComplexLinear, Magnitude)) for size in sizes
            )
            for name, module in zip(self.heads, heads, strict=True):
                self.add_module(name, module)
            return
        # The order of the seed's state dict.
        self.encoder = RealTrunk(config, *sizes[0])
        self.add_module(self.heads[0], heads[0])
        self.decoder = RealTrunk(config, *sizes[1])
        self.add_module(self.heads[1], heads[1])

    def forward(self, x, eps=None):
        h = self._trunk(torch.cat([x, torch.zeros_like(x)], -1) if self.complex else x, "enc")
        mu, logvar = getattr(self, self.heads[0])(h).chunk(2, -1)
        if eps is None:
            eps = torch.randn_like(mu)
        z = mu + torch.exp(0.5 * logvar) * eps
        logits = getattr(self, self.heads[1])(self._trunk(z, "dec"))
        return {"mu": mu, "logvar": logvar, "z": z, "pi_logits": logits}

    @property
    def complex(self):
        return self.config.kind == "complex"

    def _trunk(self, x, name):
        if not self.complex:
            return (self.encoder if name == "enc" else self.decoder)(x)
        for module in self.enc_layers if name == "enc" else self.dec_layers:
            x = module(x)
        return x

    def beta(self, step):
        warmup, most = self.objective.beta_warmup_steps, self.objective.beta
        return most if warmup <= 0 else most * min(1.0, max(0, step) / warmup)

    def compute_loss(self, x, step, eps=None, out=None):
        """Loss and its terms; `out` is a pass that was made before."""
        out = self(x, eps) if out is None else out
        nll = -log_likelihood(x, out["pi_logits"], self.config.likelihood.sigma).mean()
        kl = -0.5 * (1 + out["logvar"] - out["mu"] ** 2 - out["logvar"].exp())
        if self.objective.free_bits > 0:
            kl = kl.clamp(min=self.objective.free_bits)
        kl = kl.sum(-1).mean()
        beta = self.beta(step)
        loss = nll + beta * kl
        return loss, {"loss": loss.detach(), "nll": nll.detach(), "kl": kl.detach(), "beta": beta}


def log_likelihood(x, logits, sigma):
    """Of each row, under the mixture of two Gaussians."""
    constant = math.log(sigma) + 0.5 * math.log(2 * math.pi)
    one = -F.softplus(-logits) - (x - 1) ** 2 / (2 * sigma**2) - constant
    zero = -F.softplus(logits) - x**2 / (2 * sigma**2) - constant
    return torch.logaddexp(one, zero).sum(-1)


def fisher_ratio_trace(z, y, eps, min_per_class):
    """Scatter between classes over scatter within; the loop and the gate are the seed's."""
    total = int(y.max().item()) + 1
    counts = torch.bincount(y, minlength=total)
    if counts.min().item() < min_per_class:
        return z.new_zeros(())
    mean = z.mean(0)
    within = between = z.new_zeros(())
    for label in range(total):
        rows = z[y == label]
        centre = rows.mean(0)
        within = within + ((rows - centre) ** 2).sum()
        between = between + len(rows) * ((centre - mean) ** 2).sum()
    return (between / len(z)) / (within / len(z) + eps)


def remap(labels):
    """The seed's loop over the labels of this batch."""
    y = torch.zeros_like(labels)
    for i, value in enumerate(torch.unique(labels)):
        y[labels == value] = i
    return y


def lambda_schedule(step, base, warmup, ramp):
    if base <= 0 or step < warmup:
        return 0.0
    return base * min(max((step - warmup) / max(1, ramp), 0.0), 1.0)
