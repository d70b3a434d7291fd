"""LatentWire: our modules' parameters and the original's keys (spec/latentwire.md, 2 to 4)."""

from jaxgraph.interop.rule import LINEAR, SAME, Rule

Table = list[Rule]


def linear(ours: str, theirs: str, *, bias: bool = True) -> Table:
    """A linear map."""
    kernel = Rule(_join(ours, "kernel"), _dot(theirs, "weight"), LINEAR)
    return [kernel, Rule(_join(ours, "bias"), _dot(theirs, "bias"))][: 1 + bias]


def norm(ours: str, theirs: str) -> Table:
    """A LayerNorm."""
    return [
        Rule(_join(ours, "scale"), _dot(theirs, "weight")),
        Rule(_join(ours, "bias"), _dot(theirs, "bias")),
    ]


def attention(ours: str, theirs: str) -> Table:
    """Attention with packed projections."""
    return [
        Rule(_join(ours, "qkv_kernel"), _dot(theirs, "in_proj_weight"), LINEAR),
        Rule(_join(ours, "qkv_bias"), _dot(theirs, "in_proj_bias")),
        *linear(_join(ours, "out"), _dot(theirs, "out_proj")),
    ]


def stack(ours: str, theirs: str, last_norm: str) -> Table:
    """Transformer layers, whose weights are stacked here, and the norm behind them."""
    layers, keys = _join(ours, "stack/layers"), _dot(theirs, "encoder.layers.{i}")
    return [
        *attention(f"{layers}/attention", f"{keys}.self_attn"),
        *linear(f"{layers}/up", f"{keys}.linear1"),
        *linear(f"{layers}/down", f"{keys}.linear2"),
        *norm(f"{layers}/attention_norm", f"{keys}.norm1"),
        *norm(f"{layers}/mlp_norm", f"{keys}.norm2"),
        *norm(_join(ours, "stack/norm"), _dot(theirs, last_norm)),
    ]


def byte_encoder(ours: str = "", theirs: str = "") -> Table:
    table = Rule(_join(ours, "embedding"), _dot(theirs, "byte_emb.weight"))
    return [table, *stack(ours, theirs, "ln")]


def pooler(ours: str = "", theirs: str = "") -> Table:
    return [
        Rule(_join(ours, "latent"), _dot(theirs, "latent")),
        *attention(_join(ours, "attention"), _dot(theirs, "cross_attn")),
        *norm(_join(ours, "mlp_norm"), _dot(theirs, "ff.0")),
        *linear(_join(ours, "up"), _dot(theirs, "ff.1")),
        *linear(_join(ours, "down"), _dot(theirs, "ff.3")),
        *norm(_join(ours, "gate_norm"), _dot(theirs, "gate.0")),
        *linear(_join(ours, "gate"), _dot(theirs, "gate.1")),
    ]


def interlingua(models: tuple[str, ...]) -> Table:
    """The encoder of `encoder.pt`; models by the names that the original gives them."""
    return [
        *byte_encoder("backbone", "backbone"),
        *pooler("shared_pooler", "shared_pooler"),
        *(rule for name in models for rule in pooler(f"private_{name}", f"private_poolers.{name}")),
    ]


def query_encoder() -> Table:
    return [
        Rule("query", "query"),
        *linear("query_projection", "q_proj", bias=False),
        *linear("key_projection", "k_proj", bias=False),
        *linear("value_projection", "v_proj", bias=False),
        *attention("attention", "attn"),
        *linear("out_projection", "o_proj", bias=False),
        *norm("latent_norm", "to_latent.0"),
        *linear("to_latent", "to_latent.1"),
        *norm("gate_norm", "slot_gate.0"),
        *linear("gate", "slot_gate.1"),
    ]


def simple_encoder() -> Table:
    return [*linear("projection", "proj"), Rule("queries", "queries"), *norm("norm", "ln")]


def adapter() -> Table:
    """The adapter of `adapter_NAME.pt`."""
    return [
        Rule("position", "position_emb"),
        *linear("length", "length_proj.0"),
        *norm("input_norm", "input_norm"),
        *linear("input", "proj_in"),
        *linear("middle", "mid"),
        *linear("output", "proj_out"),
        *linear("skip", "skip"),
        *norm("output_norm", "out_norm"),
        Rule("scale", "scale"),
        Rule("colour/gamma", "color.gamma"),
        Rule("colour/beta", "color.beta"),
        *linear("film_scale", "film_scale"),
        *linear("film_shift", "film_shift"),
    ]


def deep_prefix() -> Table:
    return [
        *norm("norm", "layer_norm"),
        *linear("residual", "residual", bias=False),
        Rule("key_kernel", "key_layers.{i}.weight", LINEAR),
        Rule("value_kernel", "value_layers.{i}.weight", LINEAR),
    ]


def coprocessor() -> Table:
    return [
        *norm("norm", "layer_norm"),
        *linear("first", "pre_proj.0"),
        *linear("second", "pre_proj.2"),
        *linear("tokens", "token_proj"),
        *linear("key_{i}", "key_layers.{i}", bias=False),
        *linear("value_{i}", "value_layers.{i}", bias=False),
    ]


def latent_adapter(ours: str = "", theirs: str = "") -> Table:
    return [
        Rule(_join(ours, "alpha"), _dot(theirs, "alpha"), SAME),
        *norm(_join(ours, "norm"), _dot(theirs, "ln")),
        *linear(_join(ours, "query"), _dot(theirs, "q_proj")),
        *linear(_join(ours, "key"), _dot(theirs, "k_proj")),
        *linear(_join(ours, "value"), _dot(theirs, "v_proj")),
        *linear(_join(ours, "up"), _dot(theirs, "out.0")),
        *linear(_join(ours, "down"), _dot(theirs, "out.2")),
    ]


def refiner() -> Table:
    return stack("", "", "norm")


def gist() -> Table:
    return [
        Rule("query", "query"),
        *(rule for name in "qkv" for rule in linear(name, f"{name}_proj", bias=False)),
        *norm("block_{i}_norm", "blocks.{i}.0"),
        *linear("block_{i}_up", "blocks.{i}.1"),
        *linear("block_{i}_down", "blocks.{i}.4"),
        *linear("out", "out_proj"),
        *norm("out_norm", "out_norm"),
    ]


def _join(ours: str, name: str) -> str:
    return f"{ours}/{name}" if ours else name


def _dot(theirs: str, name: str) -> str:
    return f"{theirs}.{name}" if theirs else name
