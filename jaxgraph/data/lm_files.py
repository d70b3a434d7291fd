"""Where the weights of a frozen language model lie, by the name that a config gives."""

from pathlib import Path

from jaxgraph.data.assets import asset_file
from jaxgraph.errors import UserError

NAMED = {
    "smollm2": ("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "glassllm:en": ("glassllm", "en.npz"),
    "glassllm:pt": ("glassllm", "pt.npz"),
}


def lm_path(source: str) -> Path:
    """The file or folder for `jaxgraph.lm.load.load_lm`.

    Args:
      source: a name of `NAMED`, whose asset must have been fetched, or a path.

    Raises:
      UserError: neither; or the asset is missing, and the message says how to fetch it.
    """
    if source in NAMED:
        return asset_file(*NAMED[source])
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(
            f"language model {source!r} is neither a path nor one of {', '.join(NAMED)}"
        )
    return path
