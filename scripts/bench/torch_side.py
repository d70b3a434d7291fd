"""What all references share: PyTorch's threads, its device, its memory."""

import torch

from bench import worker

BREAK = "JAXGRAPH_BENCHMARK_BREAK"
"""Environment variable for the tests of the agreement check: `weights` gives the reference other
weights than ours, `step` lets its steps change nothing."""


class TorchSide:
    """Commands of `bench.pair` that do not depend on the system."""

    def __init__(self, row):
        self.row = row
        torch.set_num_threads(row.threads)
        torch.set_float32_matmul_precision("highest")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def hello(self) -> dict:
        return {"backend": "gpu" if self.device == "cuda" else "cpu"}

    def finish(self) -> dict:
        if self.device == "cuda":
            return {"peak_mb": torch.cuda.max_memory_allocated() / 2**20}
        return {"peak_mb": worker.peak_mb()}
