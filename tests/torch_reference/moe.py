"""The seed's geometric MoE in PyTorch (spec/moe.md, section 3), key names included.

It differs from the original in one point: hyperedges connect the experts of one token only
(spec D1). Ghost levels change inside the forward pass, as they do there.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

EDGE_SIZES = {"pairs": 2, "triplets": 3}
DORMANT, ACTIVATING, ACTIVE = 0, 1, 2


class Attention(nn.Module):
    """Multi-head self-attention with packed projections; a query without a key gets zeros."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x, mask):
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = packed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """One expert: a pre-norm transformer block."""

    def __init__(self, config):
        super().__init__()
        width, hidden = config.width, config.ffn_factor * config.width
        self.attention = Attention(width, config.num_heads, config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x, mask):
        x = x + self.attention(self.norm1(x), mask)
        return x + self.ffn(self.norm2(x))


class Convolution(nn.Module):
    """D⁻¹ H B⁻¹ Hᵀ X Θᵀ + bias for every token, the operator given as one matrix."""

    def __init__(self, width):
        super().__init__()
        self.lin = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, nodes, operator):
        return torch.einsum("mn,btnd->btmd", operator, self.lin(nodes)) + self.bias


class Coupler(nn.Module):
    """Hypergraph convolutions over the experts of a token, their mean, and a small MLP."""

    def __init__(self, config):
        super().__init__()
        width, options = config.width, config.hypergraph
        self.edges = hyperedges(config.num_experts, options.strategy)
        # Not in the state dict: the original keeps no buffers either.
        self.register_buffer("operator", operator(self.edges, config.num_nodes), persistent=False)
        if options.learnable_weights and self.edges:
            # Never read in the forward pass, as in the original (spec D7).
            self.hyperedge_weights = nn.Parameter(torch.randn(len(self.edges)))
        self.hgnn_layers_module = nn.ModuleList(
            Convolution(width) for _ in range(options.convolutions)
        )
        self.combiner = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def forward(self, nodes):
        trace = []
        for convolution in self.hgnn_layers_module:
            nodes = convolution(nodes, self.operator)
            trace.append(nodes)
        return self.combiner(nodes.mean(2)), trace


class Layer(nn.Module):
    """Experts and ghosts on the same input, coupled or averaged, added to the input."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.primary_experts = nn.ModuleList(Block(config) for _ in range(config.num_experts))
        if config.ghosts.count:
            self.ghost_experts = nn.ModuleList(Block(config) for _ in range(config.ghosts.count))
            self.controller = Controller(config.ghosts.count)
        if config.coupled:
            self.coupler = Coupler(config)

    def forward(self, x, mask):
        trace = {}
        outputs = [expert(x, mask) for expert in self.primary_experts]
        if self.config.ghosts.count:
            trace["scores"] = scores = saturation(torch.stack(outputs), x)
            self.controller.update(math.prod(scores) > self.config.ghosts.threshold)
            levels = self.controller.levels.clone().to(x)  # the next call writes into them
            outputs += [
                level * ghost(x, mask)
                for level, ghost in zip(levels, self.ghost_experts, strict=True)
            ]
        nodes = torch.stack(outputs, 2)
        if self.config.coupled:
            coupled, trace["convolutions"] = self.coupler(nodes)
            trace["coupled"], x = coupled, x + coupled
        else:
            x = x + nodes.mean(2)
        return x, trace | {"outputs": nodes, "hidden": x}


class LanguageModel(nn.Module):
    """Embeddings, layers, output norm, vocabulary head."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_emb = nn.Embedding(config.vocab_size, config.width)
        self.pos_emb = nn.Embedding(config.max_seq_len, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.model_layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.output_norm = nn.LayerNorm(config.width)
        self.lm_head = nn.Linear(config.width, config.vocab_size)
        for module in self.modules():
            if (
                isinstance(module, nn.Embedding)
                or type(module) is nn.Linear
                and (module.bias is not None)
            ):
                nn.init.normal_(module.weight, std=0.02)
            if type(module) is nn.Linear and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens, attention_mask=None):
        """Logits, and what the layers computed by name."""
        length = tokens.shape[1]
        mask = None
        if attention_mask is not None:
            causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
            mask = causal & attention_mask.bool()[:, None, None, :]
        embedded = self.token_emb(tokens) + self.pos_emb.weight[:length]
        x, layers = self.dropout(embedded), []
        for layer in self.model_layers:
            x, trace = layer(x, mask)
            layers.append(trace)
        hidden = self.output_norm(x)
        return self.lm_head(hidden), {"embedded": embedded, "hidden": hidden, "layers": layers}


class Controller:
    """Levels and phases of one layer's ghosts; plain attributes, as in the original."""

    def __init__(self, count):
        self.levels, self.phase = torch.zeros(count), [DORMANT] * count

    def update(self, trigger):
        if trigger and DORMANT in self.phase:
            chosen = self.phase.index(DORMANT)
            self.phase[chosen], self.levels[chosen] = ACTIVATING, 0.01
            return  # nobody else moves in this call
        for ghost, phase in enumerate(self.phase):
            if phase == ACTIVATING:
                self.levels[ghost] = min(torch.tensor(1.0), self.levels[ghost] + 0.01)
                if self.levels[ghost] >= 1:
                    self.phase[ghost] = ACTIVE


def hyperedges(count, strategy):
    """All pairs, all triplets or the one edge of all experts."""
    return list(itertools.combinations(range(count), EDGE_SIZES.get(strategy, count)))


def operator(edges, num_nodes):
    """D⁻¹ H B⁻¹ Hᵀ; nodes without an edge (ghosts) have zero rows and columns."""
    table = torch.zeros(num_nodes, len(edges))
    for number, edge in enumerate(edges):
        table[list(edge), number] = 1
    return table / table.sum(1, keepdim=True).clamp(min=1) @ (table / table.sum(0)).T


@torch.no_grad()
def saturation(outputs, x):
    """Orthogonality score and unexplained variance of a layer; their product is its saturation."""
    unit = F.normalize(outputs.mean((1, 2)), dim=-1)
    gram = unit @ unit.T - torch.eye(len(unit), device=unit.device)
    return (1 - gram.square().mean()).item(), (x - outputs.mean(0)).var().item()
