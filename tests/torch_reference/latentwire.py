"""LatentWire in plain PyTorch, from spec/latentwire.md: encoder, adapter, and the losses of a step:
in the original's way, a pass of the language model for each, or all as slices of one pass.

Parameters go by the original's names. The language model is one of transformers'.
"""

import math

import torch
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax

TEMPERATURE = 2.0
WEIGHTS = {"tf": 1.0, "first": 0.5, "kce": 0.5, "kd": 1.0, "scale": 0.05}


def sinusoid(length, width):
    angles = torch.arange(length)[:, None] * torch.exp(
        torch.arange(0, width, 2) * (-math.log(10000) / width)
    )
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, width)


class ByteEncoder(nn.Module):
    def __init__(self, width, layers, heads, ratio=4):
        super().__init__()
        self.byte_emb = nn.Embedding(256, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, ratio * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.ln = nn.LayerNorm(width)

    def forward(self, ids, mask):
        x = self.byte_emb(ids) + sinusoid(ids.shape[1], self.byte_emb.weight.shape[1])
        return self.ln(self.encoder(x, src_key_padding_mask=None if mask is None else ~mask))


class Pooler(nn.Module):
    def __init__(self, width, slots, heads):
        super().__init__()
        self.latent = nn.Parameter(torch.randn(slots, width) / width**0.5)
        self.cross_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ff = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(),
            nn.Linear(2 * width, width),
        )  # fmt: skip
        self.gate = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Sigmoid())

    def forward(self, features, mask):
        query = self.latent.expand(len(features), -1, -1)
        hidden = None if mask is None else ~mask
        read = self.cross_attn(query, features, features, hidden, need_weights=False)[0] + query
        gate = self.gate(read)
        mixed = gate * read + (1 - gate) * query
        return mixed + self.ff(mixed)


class Encoder(nn.Module):
    """Shared slots alone."""

    def __init__(self, width, layers, heads, slots):
        super().__init__()
        self.backbone = ByteEncoder(width, layers, heads)
        self.shared_pooler = Pooler(width, slots, heads)

    def forward(self, ids, mask=None):
        return self.shared_pooler(self.backbone(ids, mask), mask)


class Adapter(nn.Module):
    def __init__(self, width, outputs, slots, ratio=2):
        super().__init__()
        self.position_emb = nn.Parameter(0.02 * torch.randn(slots, width))
        self.length_proj = nn.Sequential(nn.Linear(1, width))
        self.input_norm, self.out_norm = nn.LayerNorm(width), nn.LayerNorm(outputs)
        hidden = ratio * width
        self.proj_in, self.mid = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.proj_out, self.skip = nn.Linear(hidden, outputs), nn.Linear(width, outputs)
        self.film_scale, self.film_shift = nn.Linear(width, outputs), nn.Linear(width, outputs)
        self.scale = nn.Parameter(torch.ones(1))
        self.act = nn.GELU()

    def forward(self, z):
        z = z + self.position_emb
        n = self.input_norm(z)
        x = self.proj_out(self.act(self.mid(self.act(self.proj_in(n))))) + self.skip(n)
        x = x * self.film_scale(z).sigmoid() + self.film_shift(z)
        return self.out_norm(x) * self.scale


class Refiner(nn.Module):
    def __init__(self, width, layers, heads, ratio=4):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, ratio * width, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, z):
        return self.norm(self.encoder(z))


class GistHead(nn.Module):
    def __init__(self, width, outputs, targets, hidden, layers):
        super().__init__()
        self.query = nn.Parameter(0.01 * torch.randn(targets, width))
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(width, width, bias=False) for _ in range(3)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.0),
                nn.Linear(hidden, width),
            )
            for _ in range(layers)
        )  # fmt: skip
        self.out_proj, self.out_norm = nn.Linear(width, outputs), nn.LayerNorm(outputs)

    def forward(self, z):
        scores = self.q_proj(self.query) @ self.k_proj(z).transpose(1, 2) / z.shape[-1] ** 0.5
        x = scores.softmax(-1) @ self.v_proj(z)
        for block in self.blocks:
            x = x + block(x)
        return self.out_norm(self.out_proj(x))


def calibrate(prompt, rms):
    return prompt * (rms / prompt.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-6))


def lm_logits(lm, prompt, ids):
    """Logits behind every vector of [prompt; ids]."""
    vectors = torch.cat([prompt, lm.get_input_embeddings()(ids)], dim=1)
    return lm(inputs_embeds=vectors, use_cache=False).logits


def teacher_logits(lm, text, answer, k):
    """Logits of the answer's first k tokens behind the text itself."""
    with torch.no_grad():
        ids = torch.cat([text, answer[:, :k]], dim=1)
        return lm(input_ids=ids, use_cache=False).logits[:, text.shape[1] - 1 :][:, :k]


def divergence(student, teacher):
    """Mean over rows of τ² KL(teacher ‖ student)."""
    student, teacher = (log_softmax(x / TEMPERATURE, dim=-1) for x in (student, teacher))
    return TEMPERATURE**2 * kl_div(student, teacher, log_target=True, reduction="batchmean")


def original_way(lm, prompt, text, answer, k):
    """Loss by 2k + 3 passes; answers without padding, the main loss aligned."""
    m = prompt.shape[1]
    logits = lm_logits(lm, prompt, answer[:, :-1])[:, m - 1 :]
    tf = cross_entropy(logits.flatten(0, 1), answer.flatten())
    first = cross_entropy(lm_logits(lm, prompt, answer[:, :0])[:, -1], answer[:, 0])
    taught = teacher_logits(lm, text, answer, k)
    kce, kd = 0.0, 0.0
    for t in range(k):
        kce = kce + cross_entropy(lm_logits(lm, prompt, answer[:, :t])[:, -1], answer[:, t])
    for t in range(k):
        kd = kd + divergence(lm_logits(lm, prompt, answer[:, :t])[:, -1], taught[:, t])
    return total(tf, first, kce / k, kd / k)


def one_pass(lm, prompt, text, answer, k):
    """The same as slices of one pass, and one of the teacher."""
    logits = lm_logits(lm, prompt, answer[:, :-1])[:, prompt.shape[1] - 1 :]
    tf = cross_entropy(logits.flatten(0, 1), answer.flatten())
    kce = cross_entropy(logits[:, :k].flatten(0, 1), answer[:, :k].flatten())
    taught = teacher_logits(lm, text, answer, k)
    kd = divergence(logits[:, :k].flatten(0, 1), taught.flatten(0, 1))
    return total(tf, cross_entropy(logits[:, 0], answer[:, 0]), kce, kd)


def total(tf, first, kce, kd):
    parts = {"tf": tf, "first": first, "kce": kce, "kd": kd}
    return sum(WEIGHTS[name] * value for name, value in parts.items())


def state_distance(lm, prompt, text, answer, k, layers):
    """Hidden states in front of the first k tokens beside a reader's."""
    table = lm.get_input_embeddings()
    told, read = (
        lm(inputs_embeds=torch.cat([before, table(answer)], 1), output_hidden_states=True)
        .hidden_states
        for before in (prompt, table(text))
    )
    at, end = prompt.shape[1] - 1, text.shape[1] - 1
    return sum(
        (told[i][:, at : at + k] - read[i][:, end : end + k].detach()).square().mean()
        for i in layers
    )


def answer_alignment(lm, prompt, answer):
    """1 - cosine of each slot with the embedding of the answer's token at its place."""
    slots = min(prompt.shape[1], answer.shape[1])
    goal = lm.get_input_embeddings()(answer[:, :slots])
    return (1 - cosine_similarity(prompt[:, :slots], goal, dim=-1)).mean()


def gist(lm, head, z, text):
    """Mean squared error of the embeddings of the text's first tokens, none left out."""
    guess = head(z)
    goal = lm.get_input_embeddings()(text[:, : guess.shape[1]])
    return (guess[:, : goal.shape[1]] - goal).square().mean()


@torch.no_grad()
def decode(lm, prompt, tokens):
    """Greedy, as the original does it: a prefill, then one token at a time with the cache."""
    out = lm(inputs_embeds=prompt, use_cache=True)
    found = [out.logits[:, -1].argmax(-1)]
    for _ in range(tokens - 1):
        out = lm(
            input_ids=found[-1][:, None], past_key_values=out.past_key_values, use_cache=True
        )
        found.append(out.logits[:, -1].argmax(-1))
    return torch.stack(found, dim=1)
