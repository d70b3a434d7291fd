"""The reference's side of a pair: the seed's model and step in PyTorch (tests/torch_reference)."""

import os

from bench import worker

ROW = worker.start()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from bench.torch_side import BREAK, TorchSide  # noqa: E402
from tests.torch_reference.moe import ACTIVE  # noqa: E402
from tests.torch_reference.moe_cases import make_model, state_arrays  # noqa: E402
from tests.torch_reference.moe_training import make_optimizer  # noqa: E402


class Reference(TorchSide):
    """Commands of `bench.pair`."""

    def make(self, path: str) -> None:
        """Makes weights and tokens, and writes them for the other side."""
        row = self.row
        model = make_model(row.model, row.seed)
        tokens = torch.randint(1, row.sizes.vocab_size, (row.batch, row.tokens + 1))
        np.savez(path, **state_arrays(model, prefix=""), tokens=tokens.numpy())
        if os.environ.get(BREAK) == "weights":
            with torch.no_grad():
                model.lm_head.bias[1] += 1
        for layer in model.model_layers:
            if row.awake:
                layer.controller.levels[:] = 1
                layer.controller.phase[:] = [ACTIVE] * len(layer.controller.phase)
        self.model, self.tokens = model.to(self.device), tokens.to(self.device)
        if row.trainable == "all":
            self.optimizer = torch.optim.AdamW(
                model.parameters(), lr=row.lr, weight_decay=row.weight_decay
            )
        else:
            self.optimizer = make_optimizer(model, row.lr, row.lr)

    def loss(self) -> float:
        self.model.eval()
        with torch.no_grad():
            return self._loss().item()

    def warm_up(self, calls: int) -> dict:
        return {"warm_up_s": sum(self.run() for _ in range(calls)) / 1000}

    def run(self) -> float:
        return worker.timed(self._train if self.row.task == "train" else self.loss)

    def _loss(self) -> torch.Tensor:
        """Of the seed's standard loop: every next token counts. The batch has no padding, so no
        mask is given: PyTorch's attention is at its fastest then."""
        logits, _ = self.model(self.tokens[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), self.tokens[:, 1:].flatten())

    def _train(self) -> None:
        self.model.train()
        # All gradients, not the optimiser's only: the seed lets those of the rest pile up.
        self.model.zero_grad()
        loss = self._loss()
        loss.backward()
        if os.environ.get(BREAK) != "step":
            self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        loss.item()


if __name__ == "__main__":
    worker.serve(Reference(ROW))
