"""The reference's side of a pair: tests/torch_reference/latentwire.py and transformers' Llama."""

import os

from bench import worker

ROW = worker.start()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from bench.latentwire_draws import draw  # noqa: E402
from bench.torch_side import BREAK, TorchSide  # noqa: E402
from tests.torch_reference import latentwire as reference  # noqa: E402

WAYS = {"original": reference.original_way, "one_pass": reference.one_pass}


def make_lm(arch) -> LlamaForCausalLM:
    """A frozen model of random weights, with PyTorch's fused attention."""
    config = LlamaConfig(
        vocab_size=arch.vocab_size, hidden_size=arch.width, intermediate_size=arch.ffn_width,
        num_hidden_layers=arch.layers, num_attention_heads=arch.heads,
        num_key_value_heads=arch.kv_heads, head_dim=arch.head_width, rms_norm_eps=arch.norm_eps,
        tie_word_embeddings=arch.tied, attn_implementation="sdpa",
        rope_parameters={"rope_type": "default", "rope_theta": arch.rope_theta},
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().requires_grad_(False)


class Reference(TorchSide):
    """Commands of `bench.pair`."""

    def make(self, path: str) -> None:
        """Makes weights and inputs, and writes them for the other side."""
        row, sizes = self.row, self.row.sizes
        torch.manual_seed(row.seed)
        self.lm = make_lm(row.lm)
        self.encoder = reference.Encoder(sizes.width, sizes.layers, sizes.heads, sizes.slots)
        self.adapter = reference.Adapter(sizes.width, sizes.lm_width, sizes.slots)
        drawn, stored = draw(row), {}
        for name, module in (("lm", self.lm), ("encoder", self.encoder), ("adapter", self.adapter)):
            for key, value in module.state_dict().items():
                if key != "lm_head.weight":  # tied
                    stored[f"{name}/{key}"] = value.numpy()
        np.savez(path, **stored, **drawn)
        if os.environ.get(BREAK) == "weights":
            self.lm.model.embed_tokens.weight[:7] += 1
        for module in (self.lm, self.encoder, self.adapter):
            module.to(self.device)
        given = {key: torch.from_numpy(value).to(self.device) for key, value in drawn.items()}
        self.bytes, self.text, self.answer = (
            given[key].long() for key in ("bytes", "text", "answer")
        )
        self.rms = self.lm.model.embed_tokens.weight.square().mean().sqrt()
        self.prompt = reference.calibrate(given["prompt"], self.rms)
        self.params = [*self.encoder.parameters(), *self.adapter.parameters()]
        self.optimizer = torch.optim.AdamW(
            self.params, lr=row.lr, weight_decay=row.weight_decay, fused=True
        )
        self.passes = 0
        self.lm.register_forward_pre_hook(self._count)

    def loss(self) -> float:
        if self.row.work == "decode":
            found = reference.decode(self.lm, self.prompt, self.row.sizes.new_tokens)
            return found.float().mean().item() / self.row.sizes.vocab
        with torch.no_grad():
            return self._loss(self._prompt()).item()

    def warm_up(self, calls: int) -> dict:
        return {"warm_up_s": sum(self.run() for _ in range(calls)) / 1000}

    def run(self) -> float:
        """Milliseconds of a call; of a token when decoding."""
        self.passes = 0
        tokens = self.row.sizes.new_tokens if self.row.work == "decode" else 1
        ms = worker.timed(self._call) / tokens
        self.passes_of_a_call = self.passes
        return ms

    def finish(self) -> dict:
        return super().finish() | {"passes": self.passes_of_a_call}

    def _count(self, *_):
        self.passes += 1

    def _prompt(self) -> torch.Tensor:
        if self.row.work == "lm":
            return self.prompt
        return reference.calibrate(self.adapter(self.encoder(self.bytes)), self.rms)

    def _loss(self, prompt: torch.Tensor) -> torch.Tensor:
        way = WAYS[self.row.reference]
        loss = way(self.lm, prompt, self.text, self.answer, self.row.k)
        if self.row.work == "step":
            penalty = (self.adapter.scale - 1).square().sum()
            loss = loss + reference.WEIGHTS["scale"] * penalty
        return loss

    def _call(self) -> None:
        if self.row.work == "decode":
            reference.decode(self.lm, self.prompt, self.row.sizes.new_tokens)
        elif self.row.work == "lm":
            self._loss(self.prompt.detach().requires_grad_()).backward()
        else:
            self._train()
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _train(self) -> None:
        broken = os.environ.get(BREAK) == "step"
        start = [each.detach().clone() for each in self.params] if broken else None
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(self._prompt()).backward()
        torch.nn.utils.clip_grad_norm_(self.params, self.row.clip)
        self.optimizer.step()
        if start:
            with torch.no_grad():
                for parameter, value in zip(self.params, start, strict=True):
                    parameter.copy_(value)


if __name__ == "__main__":
    worker.serve(Reference(ROW))
