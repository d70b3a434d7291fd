"""The reference's side of a pair: the seed's VAE and loop in PyTorch (tests/torch_reference)."""

import os

from bench import worker

ROW = worker.start()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.torch_side import BREAK, TorchSide  # noqa: E402
from bench.vae_cases import OBJECTIVE, SEPARABILITY  # noqa: E402
from tests.torch_reference.vae import MixtureVae  # noqa: E402
from tests.torch_reference.vae_training import make_optimizer, seed_step  # noqa: E402

PASSES = {"original": 2, "one_pass": 1}


class Reference(TorchSide):
    """Commands of `bench.pair`."""

    def make(self, path: str) -> None:
        """Makes weights and batches, and writes them for the other side.

        The noise is there before the clock runs: the seed's sender adds it. Ours draws its own
        within its steps.
        """
        row = self.row
        torch.manual_seed(row.seed)
        rng = np.random.default_rng(row.seed)
        model = MixtureVae(row.model, OBJECTIVE)
        bits = rng.integers(0, 256, (row.steps, row.batch, row.inputs // 8), np.uint8)
        x = np.unpackbits(bits, axis=-1, bitorder="little").astype(np.float32)
        x += row.model.likelihood.sigma * rng.normal(size=x.shape).astype(np.float32)
        labels = np.arange(row.steps * row.batch).reshape(row.steps, row.batch) % 3
        width = model.latent * (2 if model.complex else 1)
        eps = rng.normal(size=(row.batch, width)).astype(np.float32)
        tensors = {key: value.numpy() for key, value in model.state_dict().items()}
        np.savez(path, **tensors, bits=bits, labels=labels, x=x[0], eps=eps)
        if os.environ.get(BREAK) == "weights":
            with torch.no_grad():
                model.dec_head.bias[1] += 1
        self.model = model.to(self.device)
        self.x, self.labels, self.eps = (
            torch.from_numpy(array).to(self.device) for array in (x, labels, eps)
        )
        self.optimizer, _ = make_optimizer(model, row.lr, 10**9, 1.0)
        self.step = 0

    def loss(self) -> float:
        """At beta 1, without dropout."""
        self.model.eval()
        with torch.no_grad():
            _, metrics = self.model.compute_loss(self.x[0], 0, self.eps)
        return (metrics["nll"] + metrics["kl"]).item()

    def warm_up(self, calls: int) -> dict:
        return {"warm_up_s": self.row.steps * sum(self.run() for _ in range(calls)) / 1000}

    def run(self) -> float:
        """Milliseconds of one of the steps of a call."""
        self.model.train()
        return worker.timed(self._train) / self.row.steps

    def _train(self) -> None:
        row, start = self.row, None
        if os.environ.get(BREAK) == "step":
            start = [parameter.detach().clone() for parameter in self.model.parameters()]
        for x, labels in zip(self.x, self.labels, strict=True):
            seed_step(
                self.model, self.optimizer, SEPARABILITY, x, labels, self.step, row.clip,
                passes=PASSES[row.reference],
            )  # fmt: skip
            self.step += 1
        if start:
            with torch.no_grad():
                for parameter, value in zip(self.model.parameters(), start, strict=True):
                    parameter.copy_(value)
        if self.device == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    worker.serve(Reference(ROW))
