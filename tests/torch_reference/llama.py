"""A plain Llama in PyTorch, from spec/latentwire.md, section 5: one token mixes with those before
it, position by position, with neighbouring coordinates rotated as the original Llama does."""

import torch


def norm(x, scale, eps):
    return scale * x / torch.sqrt((x**2).mean(-1, keepdim=True) + eps)


def rotate(x, theta):
    """[t, h, k]: coordinates 2j and 2j + 1 of position p turn by p · theta^(-2j / k)."""
    length, _, width = x.shape
    turned = torch.empty_like(x)
    for p in range(length):
        for j in range(width // 2):
            angle = torch.tensor(p * theta ** (-2 * j / width))
            a, b = x[p, :, 2 * j], x[p, :, 2 * j + 1]
            turned[p, :, 2 * j] = a * torch.cos(angle) - b * torch.sin(angle)
            turned[p, :, 2 * j + 1] = a * torch.sin(angle) + b * torch.cos(angle)
    return turned


def logits(weights, ids, *, layers, heads, kv_heads, eps, theta):
    """Logits [t, v] of one text; weights by glassllm's names, matrices as [in, out]."""
    w = {name: torch.tensor(array).float() for name, array in weights.items()}
    x = w["E"][torch.tensor(ids)]
    length, width = x.shape[0], w["E"].shape[1] // heads
    for layer in range(layers):
        part = lambda name, layer=layer: w[f"blocks.{layer}.{name}"]  # noqa: E731
        h = norm(x, part("norm1.gamma"), eps)
        query = rotate((h @ part("attn.W_Q")).reshape(length, heads, width), theta)
        key = rotate((h @ part("attn.W_K")).reshape(length, kv_heads, width), theta)
        value = (h @ part("attn.W_V")).reshape(length, kv_heads, width)
        mixed = torch.zeros(length, heads, width)
        for t in range(length):
            for head in range(heads):
                shared = head // (heads // kv_heads)
                scores = key[: t + 1, shared] @ query[t, head] / width**0.5
                mixed[t, head] = torch.softmax(scores, 0) @ value[: t + 1, shared]
        x = x + mixed.reshape(length, -1) @ part("attn.W_O")
        h = norm(x, part("norm2.gamma"), eps)
        gate = h @ part("ffn.W1")
        x = x + (gate * torch.sigmoid(gate) * (h @ part("ffn.W3"))) @ part("ffn.W2")
    return norm(x, w["norm_f.gamma"], eps) @ w["E"].T
