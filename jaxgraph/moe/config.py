"""Options of the geometric MoE language model."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.data.config import TextData
from jaxgraph.fields import Count, Fraction, NonNegative, Positive, PositiveFloat
from jaxgraph.train.config import Group

MAX_HYPEREDGES = 4096
EDGE_SIZE = {"pairs": 2, "triplets": 3}


@dataclass(frozen=True)
class Hypergraph:
    """Coupling of the experts of one token."""

    strategy: Literal["pairs", "triplets", "all"] = "pairs"
    """Hyperedges: every pair, every triplet, or one edge with all experts."""
    convolutions: Positive = 2
    """Hypergraph convolutions a layer."""
    operator: Literal["weighted", "original", "pairwise", "triple"] = "weighted"
    """`weighted`: positive edge weights, nonlinearity and residual between convolutions, gated
    read-out, active ghosts included. `original`: the seed's operator, whose output does not depend
    on edges or weights (docs/parity.md, D3, D7). `pairwise`: gated messages between every two
    experts, without hyperedges. `triple`: weighted hypergraphs of primaries, of ghosts and of both,
    which appear as ghosts wake."""
    learnable_weights: bool = True
    """Train one weight per hyperedge."""


@dataclass(frozen=True)
class Ghosts:
    """Experts that wake up when the primaries saturate."""

    count: Count = 0
    """Ghosts per layer; 0 turns the mechanism off."""
    threshold: NonNegative = 0.7
    """Saturation above which the next ghost wakes."""
    window: Positive = 100
    """Steps over which saturation is averaged; nobody wakes before the window is full."""
    schedule: Literal["gradual", "binary"] = "gradual"
    """How a waking ghost's level reaches 1: in `ramp_steps` equal steps, or at once."""
    ramp_steps: Positive = 100
    """Steps of the gradual ramp."""
    statistic: Literal["residual", "original"] = "residual"
    """`residual`: share of the target direction outside the span of the experts' updates, times
    their mutual orthogonality. `original`: the seed's statistic (docs/parity.md, D6)."""
    timing: Literal["step", "forward"] = "step"
    """When levels change: once per optimiser step, from the window's mean; or inside each forward
    from its own statistic, as in the seed."""
    mixing: Literal["active", "original"] = "active"
    """Mean over experts without coupling: weighted by level, or the seed's sum over all nodes
    divided by their number, which lets sleeping ghosts dilute the primaries."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.timing == "forward" and self.statistic != "original":
            yield "timing", "'forward' needs statistic 'original'; allowed here: 'step'"


@dataclass(frozen=True)
class Adaptive:
    """Strength of the loss on weights that follows how far experts have specialised."""

    enabled: bool = False
    """Adapt each layer's strength, which starts at `weight_strength`."""
    rule: Literal["factors", "original"] = "factors"
    """`factors`: start value times all factors. `original`: the last value times all factors, as in
    the seed, which ends at a bound; and its collapse rule, which never fires (docs/parity.md)."""
    every: Positive = 500
    """Steps between two updates."""
    decay: Literal["cosine", "exponential", "linear", "step", "none"] = "cosine"
    """How strength decays with time."""
    decay_updates: Positive = 20
    """Updates over which it decays; `exponential` loses 1e-4 of itself each step instead."""
    layer_scale: Fraction = 0.8
    """Start value of a layer over that of the layer below."""
    lowest: NonNegative = 0.001
    """Smallest strength."""
    highest: NonNegative = 0.3
    """Largest strength."""
    target: Fraction = 0.95
    """Specialization, 1 - mean |cosine| between experts' weights, to be held. Random weights have
    `diagnostics/orthogonality/specialization_chance`: a target below it only ever relaxes."""
    tolerance: Fraction = 0.02
    """Below target by more: strength times 1.5; above by more: times 0.7."""
    collapse: Fraction = 0.1
    """Fall of the score over `collapse_window` that counts as a collapse."""
    collapse_window: Positive = 50
    """Updates over which a collapse is looked for."""
    plateau_window: Positive = 100
    """Updates over which a standstill of the loss is looked for, where a collapse is no alarm."""
    emergency: PositiveFloat = 2.0
    """Factor of the strength in a collapse."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.lowest > self.highest:
            yield "lowest", f"{self.lowest:g} is above highest; allowed: at most {self.highest:g}"


@dataclass(frozen=True)
class Orthogonality:
    """Losses that keep experts apart (modes `orthogonal` and `ghost`)."""

    weight: NonNegative = 0.1
    """Factor of the loss on what experts compute; 0 turns it off."""
    warmup_steps: Count = 1000
    """Steps over which the factors of all these losses rise from 0."""
    measure: Literal["updates", "outputs"] = "updates"
    """What is compared: what experts add to their input, or their outputs, input included, as in
    the seed."""
    form: Literal["cosine", "gram"] = "cosine"
    """`cosine`: squared cosines between experts. `gram`: distance of the Gram matrix from the
    identity, which grows with the width (docs/parity.md)."""
    over: Literal["token", "mean", "pool"] = "token"
    """Where experts are compared: in each token, in their mean over tokens, or on average over all
    tokens. Only `token` is independent of how a batch is cut over devices and micro-batches."""
    weight_strength: NonNegative = 0.0
    """Factor of the loss on experts' weight matrices, a layer; 0 turns it off."""
    weight_target: Literal["ffn_input", "ffn_output", "attention", "combined"] = "ffn_input"
    """Matrices compared between experts."""
    weight_form: Literal["cosine", "gram"] = "cosine"
    """As `form`."""
    adaptive: Adaptive = Adaptive()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.form == "gram" and self.over == "token":
            yield "form", "'gram' with over 'token'; allowed: over 'mean' or 'pool', or 'cosine'"
        if self.adaptive.enabled and not self.weight_strength:
            yield "adaptive.enabled", (
                "true adapts weight_strength, which is 0; allowed: false, or a strength above 0"
            )


@dataclass(frozen=True)
class Rotation:
    """The turn in front of each expert (train_mode `geometric_routed`)."""

    kind: Literal["planes", "cayley"] = "planes"
    """`planes`: independent turns in planes of a learned basis. `cayley`: any rotation within the
    span of that basis, from a skew matrix."""
    planes: Positive = 4
    """Planes of the basis; twice as many dimensions are turned."""
    angles: Literal["constant", "token"] = "constant"
    """One angle per plane, expert and layer; or angles that follow from the token."""
    max_angle: PositiveFloat = 2.0
    """Bound of an angle in radians; with `cayley`, of an entry of the skew matrix."""
    placement: Literal["block", "norms"] = "block"
    """`block`: in front of the whole expert. `norms`: behind each of its norms, where a constant
    turn can be folded into the next weights."""
    undo: bool = True
    """Turn back what the expert gives, before experts are coupled."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.angles == "token" and self.kind == "cayley":
            yield "kind", "'cayley' would solve a system per token; allowed with 'token': 'planes'"
        if self.angles == "token" and self.placement == "norms":
            yield "placement", "'norms' needs angles 'constant'; allowed with 'token': 'block'"
        if self.placement == "norms" and not self.undo:
            yield "undo", "False has no meaning with placement 'norms'; allowed there: True"


@dataclass(frozen=True)
class Views:
    """Presentations of the token embeddings, one per expert, as in the seed (train_mode `geometric`
    and `geometric_fast`)."""

    kind: Literal["householder", "cayley", "givens"] = "householder"
    """`householder`: the seed's scaling of one direction, no rotation in spite of its name
    (docs/parity.md, D8). `cayley`, `givens`: its two other forms, which are rotations."""
    dimensions: Positive = 4
    """Parameters of each expert's turn."""
    max_angle: PositiveFloat = 2.0
    """Bound of the angles that are penalised, and that `cayley` and `givens` use."""
    shared_basis: bool = False
    """Also move each presentation along a basis that all share."""
    loop: Literal["scan", "vmap"] = "scan"
    """Presentations one after the other, computed again in the backward pass; or side by side,
    with memory for all of them. Same numbers."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.shared_basis and self.kind == "givens":
            yield "shared_basis", "True with kind 'givens', which has none; allowed: False"


@dataclass(frozen=True)
class Geometric:
    """Weights of the geometric losses."""

    orthogonality_weight: NonNegative = 0.5
    """Alike outputs (`geometric`) or updates (`geometric_routed`) of experts."""
    efficiency_weight: NonNegative = 0.2
    """Mean squared angle."""
    specialization_weight: NonNegative = 0.3
    """Experts that act alike on all tokens."""
    fast_weight: NonNegative = 0.001
    """Mean squared angle in `geometric_fast`, which has no other term."""


@dataclass(frozen=True)
class Model:
    """Architecture."""

    mode: Literal["gnn", "hgnn", "orthogonal", "ghost"] = "ghost"
    """`gnn`: mean over experts. `hgnn`: hypergraph coupling. `orthogonal`: coupling and
    orthogonality loss. `ghost`: all of it and ghosts."""
    coupling: Literal["by_mode", "none"] = "by_mode"
    """`none` takes the mean over experts in mode `ghost` too."""
    vocab_size: Count = 0
    """0 takes the tokenizer's."""
    max_seq_len: Positive = 512
    """Learned positions."""
    width: Positive = 128
    """Width of the residual stream."""
    num_layers: Positive = 2
    """Layers, each with experts and ghosts of its own."""
    num_heads: Positive = 4
    """Attention heads of an expert; their number divides `width`."""
    num_experts: Positive = 4
    """Primary experts per layer; all of them see every token."""
    ffn_factor: Positive = 4
    """Hidden width of an expert's FFN as a multiple of `width`."""
    dropout: Fraction = 0.1
    """Share of activations zeroed in training."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters, softmax, norms' statistics and losses stay float32."""
    expert_loop: Literal["auto", "vmap", "map"] = "auto"
    """Experts side by side (best on GPUs) or one after the other (best on CPUs); same numbers."""
    remat: bool = False
    """Recompute each layer in the backward pass instead of keeping its activations."""
    hypergraph: Hypergraph = Hypergraph()
    ghosts: Ghosts = Ghosts()
    orthogonality: Orthogonality = Orthogonality()
    train_mode: Literal["standard", "geometric", "geometric_fast", "geometric_routed"] = "standard"
    """`geometric_routed`: every expert turns its input, in use as in training, at about the cost of
    `standard`. The seed's modes: `geometric` trains on one presentation of the embeddings per
    expert, each through the whole network; `geometric_fast` only shrinks angles that nothing uses
    (docs/parity.md, D8 to D11)."""
    rotation: Rotation = Rotation()
    views: Views = Views()
    geometric: Geometric = Geometric()

    @property
    def routed(self) -> bool:
        """Whether layers hold turns."""
        return self.train_mode == "geometric_routed"

    @property
    def presents(self) -> bool:
        """Whether the model holds the seed's rotator."""
        return self.train_mode in ("geometric", "geometric_fast")

    @property
    def coupled(self) -> bool:
        """Whether experts are coupled by the hypergraph."""
        return self.mode != "gnn" and self.coupling == "by_mode"

    @property
    def num_nodes(self) -> int:
        """Primary experts and ghosts of a layer."""
        return self.num_experts + self.ghosts.count

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.width % self.num_heads:
            yield "width", (
                f"{self.width} is not a multiple of num_heads {self.num_heads}; allowed: multiples"
            )
        if self.ghosts.count and self.mode != "ghost":
            yield "ghosts.count", (
                f"{self.ghosts.count} ghosts in mode {self.mode!r}; allowed: 0, or mode 'ghost'"
            )
        if self.coupling == "none" and self.mode in ("hgnn", "orthogonal"):
            yield "coupling", (
                f"'none' contradicts mode {self.mode!r}; allowed: 'by_mode', or mode gnn or ghost"
            )
        size = EDGE_SIZE.get(self.hypergraph.strategy, 1)
        if self.coupled and self.num_experts < size:
            yield "num_experts", (
                f"{self.num_experts} experts cannot form {self.hypergraph.strategy}; "
                f"allowed: at least {size}, or mode 'gnn'"
            )
        least = max(size, 2)
        triple = self.coupled and self.hypergraph.operator == "triple"
        if triple and self.ghosts.count < least:
            yield "hypergraph.operator", (
                f"'triple' couples {self.ghosts.count} ghosts by {self.hypergraph.strategy}; "
                f"allowed: ghosts.count at least {least}, or operator 'weighted'"
            )
        if self.coupled and math.comb(self.num_nodes, size) > MAX_HYPEREDGES:
            yield "hypergraph.strategy", (
                f"{self.hypergraph.strategy!r} over {self.num_nodes} experts gives "
                f"{math.comb(self.num_nodes, size)} hyperedges; allowed: at most {MAX_HYPEREDGES}, "
                "for example with 'all'"
            )
        if self.routed and 2 * self.rotation.planes > self.width:
            yield "rotation.planes", (
                f"{self.rotation.planes} planes need twice as many dimensions; allowed at width "
                f"{self.width}: at most {self.width // 2}"
            )
        if self.presents and self.views.shared_basis and self.width < 4:
            yield "views.shared_basis", f"True at width {self.width}; allowed from width 4"
        forward = bool(self.ghosts.count) and self.ghosts.timing == "forward"
        if self.train_mode == "geometric" and self.views.loop == "vmap" and forward:
            yield "views.loop", (
                "'vmap' with ghosts.timing 'forward', where each presentation changes the levels "
                "of the next; allowed: 'scan'"
            )


@dataclass(frozen=True)
class Optim:
    """Optimisers: one group each for primary experts, ghosts, rotations and everything else."""

    expert: Group = Group()
    ghost: Group = Group()
    rotation: Group = Group(kind="adam", lr=1e-3)
    """Turns of `geometric_routed`, and the seed's rotator."""
    shared: Group = Group()
    """Embeddings, couplers, output norm and head."""
    trainable: Literal["all", "experts_only"] = "all"
    """`experts_only` leaves the shared group untrained, as the seed does (docs/parity.md, D2)."""
    clip: NonNegative = 1.0
    """Largest gradient norm over all trained groups together; 0 turns clipping off."""
    accumulate: Positive = 1
    """Micro-batches a step; their sum equals one big batch."""
    loss_chunk: Positive = 256
    """Tokens whose logits are held at once."""


@dataclass(frozen=True)
class Sampling:
    """Text shown at the end of a run and by `scripts/generate.py`."""

    tokens: Positive = 100
    """New tokens."""
    temperature: PositiveFloat = 0.8
    """Below 1 likely tokens become likelier; above 1 all become more alike."""
    top_k: Count = 50
    """Most likely tokens to draw from; 0 draws from all."""


@dataclass(frozen=True)
class Moe:
    """Geometric MoE language model."""

    model: Model = Model()
    data: TextData = TextData()
    optim: Optim = Optim()
    sampling: Sampling = Sampling()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.data.seq_len > self.model.max_seq_len:
            yield "data.seq_len", (
                f"{self.data.seq_len} is above model.max_seq_len {self.model.max_seq_len}; "
                "allowed: at most that"
            )
        if self.data.batch_size % self.optim.accumulate:
            yield "data.batch_size", (
                f"{self.data.batch_size} is not a multiple of optim.accumulate "
                f"{self.optim.accumulate}; allowed: multiples"
            )
        if self.model.ghosts.timing == "forward" and self.optim.accumulate > 1:
            yield "model.ghosts.timing", (
                "'forward' changes levels in every micro-batch; allowed with accumulate > 1: 'step'"
            )
        if self.model.train_mode == "geometric" and self.optim.accumulate > 1:
            yield "optim.accumulate", (
                f"{self.optim.accumulate} with train_mode 'geometric', whose orthogonality "
                "compares whole batches; allowed: 1"
            )
