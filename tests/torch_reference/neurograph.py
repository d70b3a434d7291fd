"""NeuroGraph in plain PyTorch, one message after the other as the original computes it
(spec/neurograph.md, sections 3, 5, 8.3, 11 and 12; `canon` semantics)."""

from dataclasses import dataclass

import torch


@dataclass
class Options:
    """Sizes and constants of a network."""

    phase_bins: int
    mag_bins: int
    top_k: int
    decay: float
    min_strength: float
    max_timesteps: int
    min_timesteps: int
    inputs: int
    outputs: int
    phase_rate: float = 0.015
    mag_rate: float = 0.012


class NeuroGraph:
    """A network with its parameters; `sends[s]` lists whom node s sends to, ascending."""

    def __init__(self, options, sends, phase, mag, codes):
        self.o, self.sends = options, sends
        self.phase, self.mag = phase.long(), mag.long()
        angle = 2 * torch.pi * torch.arange(options.phase_bins, dtype=torch.float64)
        self.cos = torch.cos(angle / options.phase_bins).float()
        self.sin = torch.sin(angle / options.phase_bins).float()
        x = torch.linspace(-torch.pi, torch.pi, options.mag_bins, dtype=torch.float64)
        self.exp_sin = torch.exp(torch.sin(x)).float()
        self.codes = self.signal(*codes)
        self.residual = [torch.zeros(phase.shape), torch.zeros(phase.shape)]
        self.output_nodes = range(len(phase) - options.outputs, len(phase))

    def signal(self, phase, mag):
        return self.cos[phase] * self.exp_sin[mag]

    def cell(self, context, target):
        """Indices and strength of a context at a node."""
        p = (context[0] + self.phase[target]) % self.o.phase_bins
        m = (context[1] + self.mag[target]) % self.o.mag_bins
        return p, m, self.signal(p, m).sum()

    def neighbours(self, source, context):
        """The best candidates; a stable sort leaves the lowest index in front."""
        angles = (context[0] + self.phase) % self.o.phase_bins
        score = self.cos[angles].double().sum(1)
        candidates = [j for j in range(len(score)) if j != source and j not in self.sends[source]]
        order = torch.sort(score[candidates], descending=True, stable=True).indices
        return [candidates[i] for i in order[: self.o.top_k].tolist()]

    def forward(self, phase, mag):
        """Active nodes {node: (phase, mag, strength)} at the end, and the steps made."""
        active = {i: (phase[i], mag[i], torch.tensor(1.0)) for i in range(self.o.inputs)}
        threshold, t = self.o.min_strength, 0
        while active:
            answered = any(node in active for node in self.output_nodes)
            if (t >= self.o.min_timesteps and answered) or t >= self.o.max_timesteps - 1:
                break
            sources = sorted(active)
            pairs = [(s, j) for s in sources for j in self.sends[s]]
            if self.o.top_k:
                pairs += [(s, j) for s in sources for j in self.neighbours(s, active[s])]
            last = {}
            for source, target in pairs:
                p, m, strength = self.cell(active[source], target)
                if strength > 0:
                    last[target] = (p, m, strength)
            for target, (p, m, strength) in last.items():
                if target in active:
                    old = active[target]
                    p = (p + old[0]) % self.o.phase_bins
                    m = (m + old[1]) % self.o.mag_bins
                    strength = strength + old[2]
                active[target] = (p, m, strength)
            count = len(active)
            threshold *= 1 + 0.1 * count / 800 if count > 800 else 0.95 if count < 560 else 1
            threshold *= 2 if count > 0.9 * len(self.phase) else 1
            threshold = min(max(threshold, 0.5), 5.0)
            active = {n: (p, m, s * self.o.decay) for n, (p, m, s) in active.items()}
            active = {
                n: x for n, x in active.items() if n in self.output_nodes or x[2] >= threshold
            }
            t += 1
        return active, t

    def loss(self, active, label):
        """Cross entropy of the mean cosines; None without an active output."""
        rows = [self.signal(*active[n][:2]) for n in self.output_nodes if n in active]
        if not rows:
            return None
        cosine = torch.cosine_similarity(torch.stack(rows)[:, None], self.codes[None], dim=-1)
        return torch.nn.functional.cross_entropy(cosine.mean(0), torch.as_tensor(label))

    def credit(self, active, label):
        """Local gradients of all active nodes, one node at a time, as the original once did; with
        accumulation off it throws them away."""
        target = self.codes[label]
        found = {}
        for node, (p, m, _) in active.items():
            s = self.signal(p, m)
            norm = s.norm() + 1e-8
            cosine = torch.cosine_similarity(s, target, dim=0)
            u = -(target / (target.norm() + 1e-8) - s * cosine / norm) / norm
            value = self.exp_sin[m] * u
            found[node] = (-self.sin[p] * value, self.cos[p] * value)
        return found

    def train_sample(self, phase, mag, label):
        """One sample: both passes over the active outputs. Returns the loss, 0 without any."""
        active, _ = self.forward(phase, mag)
        loss = self.loss(active, label)
        if loss is None:
            return 0.0
        gradients = {}
        for node in self.output_nodes:
            if node not in active:
                continue
            s = self.signal(*active[node][:2])
            norm, code_norms = s.norm() + 1e-8, self.codes.norm(dim=1) + 1e-8
            u = torch.zeros_like(s)
            for code, code_norm in zip(self.codes, code_norms, strict=True):
                u += code / (norm * code_norm) - s * (s @ code) / (norm**3 * code_norm)
            u /= len(self.codes)
            p, m = self.phase[node], self.mag[node]
            value = self.exp_sin[m] * u
            gradients[node] = (-self.sin[p] * value, self.cos[p] * value)
        self.credit(active, label)
        widths = 2 * torch.pi / self.o.phase_bins, 6 / self.o.mag_bins
        rates = self.o.phase_rate, self.o.mag_rate
        for accumulating in (False, True):
            for node, pair in gradients.items():
                for i, gradient in enumerate(pair):
                    step = -rates[i] * gradient / widths[i]
                    if accumulating:
                        step = self.residual[i][node] + step
                    least = 0.01 if accumulating else 0.1
                    moved = torch.where(step.abs() >= least, step.sign(), 0)
                    if accumulating:
                        self.residual[i][node] = torch.where(moved == 0, step, 0)
                    self.move(node, i, moved.long())
        return float(loss)

    def move(self, node, i, step):
        """Phases wrap, magnitudes clamp."""
        if i == 0:
            self.phase[node] = (self.phase[node] + step) % self.o.phase_bins
        else:
            self.mag[node] = (self.mag[node] + step).clamp(0, self.o.mag_bins - 1)
