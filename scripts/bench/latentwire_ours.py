"""Our side of a pair: the task's own train step, the objective's language model, `generate`."""

from bench import worker

ROW = worker.start()

from functools import partial  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import tokenizers  # noqa: E402

from bench.jax_side import JaxSide  # noqa: E402
from bench.latentwire_draws import draw  # noqa: E402
from bench.rates import matmul_flops  # noqa: E402
from jaxgraph.interop.cases.latentwire import load  # noqa: E402
from jaxgraph.interop.rules import latentwire as rules  # noqa: E402
from jaxgraph.interop.rules.lm import params_from_torch  # noqa: E402
from jaxgraph.latentwire.adapter import calibrate  # noqa: E402
from jaxgraph.latentwire.config import (  # noqa: E402
    Curriculum,
    Data,
    Encoder,
    LatentWire,
    Losses,
    Optim,
)
from jaxgraph.latentwire.hearer import freeze  # noqa: E402
from jaxgraph.latentwire.schedule import plan_of  # noqa: E402
from jaxgraph.latentwire.sources import nested  # noqa: E402
from jaxgraph.latentwire.task import LatentWireTask  # noqa: E402
from jaxgraph.lm.config import Sampling  # noqa: E402
from jaxgraph.lm.generate import generate  # noqa: E402
from jaxgraph.lm.llama import Llama  # noqa: E402
from jaxgraph.lm.load import Lm  # noqa: E402
from jaxgraph.lm.load.tokenizer import LmTokenizer  # noqa: E402
from jaxgraph.train.config import Group, Schedule  # noqa: E402

NAME, NEVER = "one", 10**9


def make_task(row, params) -> LatentWireTask:
    """The task with the reference's losses and optimiser, around given frozen weights."""
    sizes, steps = row.sizes, Curriculum(first_steps=row.k, last_steps=row.k)
    group = Group(
        "adamw", lr=row.lr, weight_decay=row.weight_decay, decay="all",
        schedule=Schedule("constant"),
    )  # fmt: skip
    config = LatentWire(
        lms=(NAME,), encoder=Encoder(sizes.width, sizes.layers, sizes.heads, 4, sizes.slots),
        losses=Losses(autoscale=False, curriculum=steps),
        data=Data(anchor="", bos="no", batch_size=row.batch), optim=Optim(group, row.clip),
    )  # fmt: skip
    # Nothing is tokenised here: rows are drawn.
    words = tokenizers.models.WordLevel({"<end>": 0}, unk_token="<end>")
    lm = Lm(Llama(row.lm), params, LmTokenizer(tokenizers.Tokenizer(words), None, 0))
    return LatentWireTask(config, total_steps=NEVER, seed=row.seed, lms={NAME: lm}, source=object())


class Ours(JaxSide):
    """Commands of `bench.pair`."""

    def __init__(self, row):
        self.row = row
        jax.config.update("jax_default_matmul_precision", "highest")

    def load(self, path: str | None) -> None:
        """Takes weights and batches of the reference, or makes its own."""
        row, lm = self.row, Llama(self.row.lm)
        ids = jnp.zeros((1, 1), jnp.int32)
        frozen = jax.jit(lm.init)(jax.random.key(row.seed), ids)["params"]
        stored = {}
        if path:
            with np.load(path) as file:
                stored = dict(file)
            part = lambda name: {  # noqa: E731
                key.removeprefix(f"{name}/"): value
                for key, value in stored.items()
                if key.startswith(f"{name}/")
            }
            frozen = params_from_torch(row.lm, part("lm"))
        self.task = make_task(row, jax.device_put(frozen))
        self.state = jax.jit(self.task.init)(jax.random.key(row.seed))
        if path:
            modules, sizes = self.task.modules, row.sizes
            z = {"z": jnp.zeros((1, sizes.slots, sizes.width))}
            self.state = self.state.replace(params={
                "encoder": load(
                    modules.encoder, rules.interlingua((NAME,)), part("encoder"), {"ids": ids}
                ),
                f"adapter_{NAME}": load(
                    modules.adapters[NAME], rules.adapter(), part("adapter"), z
                ),
            })  # fmt: skip
        drawn = {key: stored[key] for key in draw(row)} if path else draw(row)
        answer, text = drawn["answer"], drawn["text"]
        batch = {"bytes": drawn["bytes"], "bytes_mask": np.ones(drawn["bytes"].shape, bool)}
        own = {
            "answer": answer, "answer_mask": np.ones(answer.shape, bool), "first": answer[:, 0],
            "text": text, "text_mask": np.ones(text.shape, bool),
        }  # fmt: skip
        batch |= {f"{NAME}/{key}": array for key, array in own.items()}
        self.batch = jax.device_put(batch | {"mask": np.ones(len(answer), np.float32)})
        self.frozen = freeze(self.task.lms[NAME].params)
        self.prompt = calibrate(jnp.asarray(drawn["prompt"]), self.frozen.rms)
        self.evaluate = jax.jit(self._loss)
        self.say = partial(
            generate, lm, sampling=Sampling(max_new_tokens=row.sizes.new_tokens)
        )

    def loss(self) -> float:
        """Of a batch; of decoding, the mean of the tokens over the vocabulary's size."""
        if self.row.work == "decode":
            tokens = self.say(self.frozen.lm, self.prompt).tokens
            return float(tokens.mean()) / self.row.sizes.vocab
        if self.row.work == "lm":
            return float(self._lm(self.prompt, self.frozen, self.batch))
        return float(self.evaluate(self.state.params, {NAME: self.frozen}, self.batch))

    def warm_up(self, calls: int) -> dict:
        row, frozen = self.row, {NAME: self.frozen}
        works = {
            "step": lambda: jax.jit(self.task.train_step, donate_argnums=0).lower(
                self.state, frozen, self.batch
            ),
            "lm": lambda: jax.jit(jax.value_and_grad(self._lm)).lower(
                self.prompt, self.frozen, self.batch
            ),
            "decode": lambda: jax.jit(lambda lm, prompt: self.say(lm, prompt).tokens).lower(
                self.frozen.lm, self.prompt
            ),
        }
        programs = []
        self.passes = counted(lambda: programs.append(works[row.work]()))
        compile_ms = worker.timed(lambda: programs.append(programs[0].compile()))
        self.program = programs[1]
        warm = [self.run() for _ in range(calls)]
        return {"compile_s": compile_ms / 1000, "warm_up_s": sum(warm) / 1000}

    def run(self) -> float:
        """Milliseconds of a call; of a token when decoding."""
        tokens = self.row.sizes.new_tokens if self.row.work == "decode" else 1
        return worker.timed(self._call) / tokens

    def finish(self) -> dict:
        found = {"peak_mb": self.peak_mb(), "flops": 0, "bytes": None}
        if self.row.work != "decode":  # a loop of unknown length
            found["passes"] = self.passes
            frozen = {NAME: self.frozen}
            forward = jax.make_jaxpr(self._loss)(self.state.params, frozen, self.batch)
            found["flops"] = 3 * matmul_flops(forward.jaxpr, max)
        return found

    def _call(self) -> None:
        work = self.row.work
        if work == "step":
            self.state, out = self.program(self.state, {NAME: self.frozen}, self.batch)
        elif work == "lm":
            out = self.program(self.prompt, self.frozen, self.batch)
        else:
            out = self.program(self.frozen.lm, self.prompt)
        jax.block_until_ready(out)

    def _loss(self, params, frozen, batch):
        args = nested(batch, lengths=False), self._plan(), jax.random.key(0)
        return self.task.objective(params, frozen, *args)[0]

    def _lm(self, prompt, frozen, batch):
        """Losses of a soft prompt, whatever it came from."""
        before = self.task.modules.hearers[NAME].compose(frozen, prompt)
        args = nested(batch, lengths=False), self._plan(), before, prompt, prompt, NAME
        return self.task.objective.of_prompt(frozen, *args)[0]

    def _plan(self):
        return plan_of(self.task.config.losses, NEVER, jnp.int32(0))


def counted(trace) -> int:
    """How often the language model is passed while this is traced."""
    calls, inner = [], Llama.__call__

    def counting(self, *args, **kwargs):
        calls.append(1)
        return inner(self, *args, **kwargs)

    Llama.__call__ = counting
    trace()
    Llama.__call__ = inner
    return len(calls)


if __name__ == "__main__":
    worker.serve(Ours(ROW))
