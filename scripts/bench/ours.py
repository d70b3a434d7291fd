"""Our side of a pair: the task's own train step and eval step, jitted."""

from bench import worker

ROW = worker.start()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from bench.jax_side import JaxSide  # noqa: E402
from bench.rates import matmul_flops  # noqa: E402
from jaxgraph.data.tokenizers import ByteTokenizer  # noqa: E402
from jaxgraph.interop.rules.moe import RULES, shapes_of  # noqa: E402
from jaxgraph.interop.torch import to_jax  # noqa: E402
from jaxgraph.moe.config import Moe, Optim  # noqa: E402
from jaxgraph.moe.ghosts import ACTIVE  # noqa: E402
from jaxgraph.moe.task import TOKENIZER_FILE, MoeTask  # noqa: E402
from jaxgraph.train.config import Group, Schedule  # noqa: E402

NEVER = 10**9


def make_task(row) -> MoeTask:
    """The task with the reference's optimiser: constant rate, no clipping, all of it decayed."""
    group = Group(
        lr=row.lr, weight_decay=row.weight_decay, decay="all", schedule=Schedule("constant")
    )
    optim = Optim(expert=group, ghost=group, shared=group, trainable=row.trainable, clip=0.0)
    return MoeTask(
        Moe(model=row.model, optim=optim),
        total_steps=NEVER,
        diagnostics_every=NEVER,
        seed=row.seed,
        artifacts={TOKENIZER_FILE: ByteTokenizer().to_json()},  # no corpus is read
    )


class Ours(JaxSide):
    """Commands of `bench.pair`."""

    def __init__(self, row):
        self.row, self.task = row, make_task(row)
        if row.dtype == "float32":
            # As in PyTorch; else float32 matmuls of recent GPUs would be rounded to TF32.
            jax.config.update("jax_default_matmul_precision", "highest")

    def load(self, path: str | None) -> None:
        """Takes weights and tokens of the reference, or makes its own."""
        row = self.row
        self.state = jax.jit(self.task.init)(jax.random.key(row.seed))
        if path:
            with np.load(path) as stored:
                tensors = dict(stored)
            tokens = tensors.pop("tokens")
            params = to_jax(tensors, shapes_of(row.model), RULES)
            self.state = self.state.replace(params=jax.device_put(params))
        else:
            shape = row.batch, row.tokens + 1
            tokens = np.random.default_rng(row.seed).integers(1, row.sizes.vocab_size, shape)
        if row.awake:
            ghosts = self.state.extra["ghosts"]
            ghosts = ghosts.replace(
                levels=jnp.ones_like(ghosts.levels), phase=jnp.full_like(ghosts.phase, ACTIVE)
            )
            self.state = self.state.replace(extra={"ghosts": ghosts})
        inputs, targets = jnp.asarray(tokens[:, :-1], jnp.int32), jnp.asarray(tokens[:, 1:])
        mask = jnp.ones(inputs.shape, jnp.float32)
        self.batch = {"inputs": inputs, "targets": targets.astype(jnp.int32), "mask": mask}
        self.evaluate, self.compile_ms = self._compile(jax.jit(self.task.eval_step))

    def loss(self) -> float:
        return float(self.evaluate(self.state, None, self.batch)["loss"])

    def warm_up(self, calls: int) -> dict:
        """Compiles what is measured, unless `loss` needed it already, and calls it."""
        self.program = self.evaluate
        if self.row.task == "train":
            jitted = jax.jit(self.task.train_step, donate_argnums=0)
            self.program, self.compile_ms = self._compile(jitted)
        warm = [self.run() for _ in range(calls)]
        return {"compile_s": self.compile_ms / 1000, "warm_up_s": sum(warm) / 1000}

    def run(self) -> float:
        return worker.timed(self._train if self.row.task == "train" else self._forward)

    def finish(self) -> dict:
        forward = jax.make_jaxpr(self.task.eval_step)(self.state, None, self.batch)
        return {
            "peak_mb": self.peak_mb(),
            "flops": matmul_flops(forward.jaxpr, max if self.row.awake else min)
            * (3 if self.row.task == "train" else 1),
            "bytes": (self.program.cost_analysis() or {}).get("bytes accessed"),
        }

    def _compile(self, jitted):
        """The program, and the milliseconds until it was there."""
        programs = []
        ms = worker.timed(
            lambda: programs.append(jitted.lower(self.state, None, self.batch).compile())
        )
        return programs[0], ms

    def _train(self) -> None:
        self.state, metrics = self.program(self.state, None, self.batch)
        jax.block_until_ready((self.state, metrics))

    def _forward(self) -> None:
        jax.block_until_ready(self.program(self.state, None, self.batch))


if __name__ == "__main__":
    worker.serve(Ours(ROW))
