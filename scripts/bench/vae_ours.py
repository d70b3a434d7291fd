"""Our side of a pair: several of the task's own train steps, scanned in one call."""

from bench import worker

ROW = worker.start()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from bench.jax_side import JaxSide  # noqa: E402
from bench.rates import matmul_flops  # noqa: E402
from bench.vae_cases import OBJECTIVE, SEPARABILITY  # noqa: E402
from jaxgraph.data.config import NumbersData  # noqa: E402
from jaxgraph.interop.rules.vae import params_from_torch  # noqa: E402
from jaxgraph.train.config import Group, Schedule  # noqa: E402
from jaxgraph.train.step import scan_steps  # noqa: E402
from jaxgraph.vae.config import Optim, Vae  # noqa: E402
from jaxgraph.vae.task import VaeTask  # noqa: E402

NEVER = 10**9


def make_task(row) -> VaeTask:
    """The task with the reference's optimiser, at a constant rate."""
    group = Group(kind="adam", lr=row.lr, schedule=Schedule("constant"))
    config = Vae(
        model=row.model, objective=OBJECTIVE, separability=SEPARABILITY,
        data=NumbersData(bits=row.inputs), optim=Optim(group=group, clip=row.clip),
    )  # fmt: skip
    return VaeTask(config, total_steps=NEVER, diagnostics_every=NEVER + 1, seed=row.seed)


class Ours(JaxSide):
    """Commands of `bench.pair`."""

    def __init__(self, row):
        self.row, self.task = row, make_task(row)
        jax.config.update("jax_default_matmul_precision", "highest")

    def load(self, path: str | None) -> None:
        """Takes weights and batches of the reference, or makes its own."""
        row = self.row
        self.state = jax.jit(self.task.init)(jax.random.key(row.seed))
        if path:
            with np.load(path) as stored:
                tensors = dict(stored)
            data = {name: tensors.pop(name) for name in ("bits", "labels", "x", "eps")}
            params = params_from_torch(row.model, tensors)
            self.state = self.state.replace(params=jax.device_put(params))
        else:
            rng = np.random.default_rng(row.seed)
            bits = rng.integers(0, 256, (row.steps, row.batch, row.inputs // 8), np.uint8)
            x = np.unpackbits(bits[0], axis=1, bitorder="little").astype(np.float32)
            eps = np.zeros((row.batch, self.task.model.latents), np.float32)
            data = {"bits": bits, "labels": np.arange(bits[..., 0].size).reshape(bits.shape[:2])}
            data |= {"labels": data["labels"] % 3, "x": x, "eps": eps}
        # As the task has it: rows lie on the device, batches are their numbers.
        shape = data["labels"].shape
        pool = {"bits": data["bits"], "label": data["labels"].astype(np.int32)}
        pool = {name: array.reshape(-1, *array.shape[2:]) for name, array in pool.items()}
        row = np.arange(len(pool["label"]), dtype=np.int32).reshape(shape)
        self.pool = jax.device_put(pool)
        self.batches = jax.device_put({"row": row, "mask": np.ones(shape, np.float32)})
        self.probe = jax.device_put((data["x"], data["eps"]))
        self.evaluate = jax.jit(self._elbo)

    def loss(self) -> float:
        return float(self.evaluate(self.state.params, *self.probe))

    def warm_up(self, calls: int) -> dict:
        jitted = jax.jit(scan_steps(self.task.train_step, self.row.steps), donate_argnums=0)
        programs = []
        compile_ms = worker.timed(
            lambda: programs.append(jitted.lower(self.state, self.pool, self.batches).compile())
        )
        self.program = programs[0]
        warm = [self.run() for _ in range(calls)]
        return {"compile_s": compile_ms / 1000, "warm_up_s": self.row.steps * sum(warm) / 1000}

    def run(self) -> float:
        """Milliseconds of one of the steps of a call."""
        return worker.timed(self._train) / self.row.steps

    def finish(self) -> dict:
        forward = jax.make_jaxpr(self._elbo)(self.state.params, *self.probe)
        read = (self.program.cost_analysis() or {}).get("bytes accessed")
        flops = 3 * matmul_flops(forward.jaxpr, max)
        return {"peak_mb": self.peak_mb(), "flops": flops, "bytes": read}

    def _elbo(self, params, x, eps):
        objective = self.task.objective
        elbo = objective.elbo(params, x, objective.run(params, x, eps), jnp.ones(len(x)))
        return elbo.nll + elbo.kl

    def _train(self) -> None:
        self.state, metrics = self.program(self.state, self.pool, self.batches)
        jax.block_until_ready((self.state, metrics))


if __name__ == "__main__":
    worker.serve(Ours(ROW))
