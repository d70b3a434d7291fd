"""Runs of the task: what learns, what stays, what evaluation may know."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from jaxgraph.data.qa import Example
from jaxgraph.errors import UserError
from jaxgraph.latentwire.conditions import Told
from jaxgraph.latentwire.config import (
    Adapter,
    Curriculum,
    Data,
    Encoder,
    Evaluation,
    Gist,
    LatentWire,
    Losses,
    Optim,
)
from jaxgraph.latentwire.examine import answers
from jaxgraph.latentwire.hearer import Before
from jaxgraph.latentwire.joint import nll_of
from jaxgraph.latentwire.sources import Source, cut, lm_names, text_of
from jaxgraph.latentwire.task import LatentWireTask, nested
from jaxgraph.lm.load import Lm
from jaxgraph.lm.load.tokenizer import LmTokenizer
from jaxgraph.nn.losses import cross_entropy
from jaxgraph.train.config import Group, Parallel, Train
from jaxgraph.train.loop import fit
from jaxgraph.train.optim import path_name
from tests.latentwire import models

WORDS = [f"w{i}" for i in range(models.VOCAB - 2)]


def tokenizer():
    vocab = {word: i for i, word in enumerate([*WORDS, "<unk>", "<end>"])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return LmTokenizer(model, None, vocab["<end>"])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The answer is the first word of the context."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("qa") / "a.jsonl"
    with path.open("w") as file:
        for _ in range(60):
            words = rng.choice(WORDS, 4)
            row = {"context": " ".join(words), "question": "w1", "answer": str(words[0])}
            file.write(json.dumps(row) + "\n")
    return LatentWire(
        lms=("one",),
        encoder=Encoder(
            models.WIDTH, layers=1, heads=2, shared_slots=models.SLOTS, refiner=1, refiner_heads=2
        ),
        losses=Losses(
            autoscale=False, distil=0.0, states=0.1, state_layers=(0, 1), answer_align=0.1,
            gist=Gist(0.1, tokens=6, layers=1, hidden=8),
        ),
        adapter=Adapter(
            lengths=True, layers=(0,), layer_heads=2, coprocessor=2, coprocessor_width=8
        ),
        data=Data(
            str(path), max_bytes=32, max_text_tokens=8, max_answer_tokens=3, anchor="w2",
            batch_size=8, validation=0.2, test=0.1,
        ),
        optim=Optim(Group("adam", lr=1e-2)),
        evaluation=Evaluation(examples=6, bits=8, resamples=50),
    )  # fmt: skip


def make(config, steps=30):
    lm = Lm(models.LLAMA, models.frozen().lm, tokenizer())
    source = Source(config, {"one": lm.tokenizer})
    return LatentWireTask(config, total_steps=steps, seed=0, lms={"one": lm}, source=source)


@pytest.fixture(scope="module")
def ran(config, tmp_path_factory):
    """A run of the loop, with counters on both steps, and its folder."""
    task, counts, folder = make(config), {"train": 0, "eval": 0}, tmp_path_factory.mktemp("run")

    def counted(name, step):
        def run(*args):
            counts[name] += 1
            return step(*args)

        return run

    task.train_step = counted("train", task.train_step)
    task.eval_step = counted("eval", task.eval_step)
    options = Train(steps=30, log_every=5, eval_every=15, save_every=30, progress="off")
    result = fit(task, options, folder, parallel=Parallel(data=1))
    return task, counts, folder, result


def test_the_loop_trains_and_compiles_once(ran):
    _, counts, _, result = ran
    assert counts == {"train": 1, "eval": 1}
    rows = [row["train/one/tf"] for row in result.history if "train/one/tf" in row]
    assert rows[-1] < rows[0] - 0.01


def test_everything_that_is_trained_has_moved(ran):
    task, _, _, result = ran
    start = task.init(jax.random.key(0)).params
    still = [
        path_name(path)
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(start),
            jax.tree.leaves(result.state.params),
            strict=True,
        )
        if np.array_equal(a, b)
    ]
    assert not still


def test_frozen_weights_stay_and_are_saved_nowhere(ran):
    task, _, folder, result = ran
    for ours, theirs in zip(
        *map(jax.tree.leaves, (task.frozen()["one"].lm, models.frozen().lm)), strict=True
    ):
        assert np.array_equal(ours, theirs)
    assert set(result.state.params) == {
        "encoder", "refiner", "adapter_one", "coprocessor_one", "latent_adapters_one", "gist_one",
    }  # fmt: skip
    shape = models.frozen().lm["embedding"].shape
    saved = jax.tree.leaves((result.state.params, result.state.opt_state))
    assert all(leaf.shape != shape for leaf in saved)
    names = " ".join(str(path) for path in folder.rglob("*"))
    assert "checkpoints" in names and "embedding" in str(task.frozen()["one"].lm.keys())


def test_the_answers_length_is_known_in_training_alone(ran):
    task, _, _, result = ran
    batch = task.batches("validation")[0]
    assert "length" in nested(batch, lengths=True)["one"]
    assert "length" not in nested(batch, lengths=False)["one"]
    told = dict(batch) | {"one/length": batch["one/length"] + 7}
    step = jax.jit(LatentWireTask.eval_step, static_argnums=0)
    first, second = (step(task, result.state, task.frozen(), b) for b in (batch, told))
    assert float(first["loss"]) == float(second["loss"])
    assert float(first["swapped_loss"]) != float(first["loss"]) and 0 < first["diversity"] < 2


def test_findings_are_plain_and_cover_every_way_to_tell(ran):
    task, _, _, result = ran
    found = task.evaluate_more(result.state, "validation")
    json.dumps(found, allow_nan=False)
    [table] = [value for value in found.values() if isinstance(value, list)]
    [times] = [found[title] for title in found if "one answer of 3 tokens" in title]
    assert len(times) == 3 and min(times.values()) > 0
    rows = {row["told"]: row for row in table}
    assert {"text", "wire", "another text's wire", "mean embeddings in slots: 3"} <= set(rows)
    assert {"text cut to tokens: 3", "nothing"} <= set(rows)
    low, high = rows["wire"]["nats a token, 95 %"]
    assert low <= rows["wire"]["nats a token"] <= high
    assert rows["wire"]["nats a token"] != rows["another text's wire"]["nats a token"]
    assert found["what a wire costs"]["bytes of a wire at 8 bits"] == 3 * 8 + 2


def test_an_answer_to_any_text(ran):
    task, _, _, result = ran
    said = task.answer(result.state, "w3 w4 w5", "w1")
    assert set(said) == {"one"} and set(said["one"].split()) <= {*WORDS, "<unk>"}


def test_candidates_are_scored_with_their_end(ran):
    task, _, _, _ = ran
    lm, frozen = task.lms["one"], task.frozen()["one"].lm
    rng = np.random.default_rng(0)
    vectors = jnp.asarray(rng.normal(size=(2, 3, 12)), jnp.float32)
    before = Before(vectors, jnp.ones((2, 3), bool))
    words = [["w1 w2", "w3"], ["w4", "w5 w6"]]
    found = nll_of(lm, frozen, Told("wire", before, {}), words, 4)
    hearer = task.modules.hearers["one"]
    for row, texts in enumerate(words):
        for i, text in enumerate(texts):
            ids = [*lm.tokenizer.encode(text), lm.tokenizer.eos_id]
            answer = jnp.tile(jnp.asarray(ids)[None], (2, 1))
            logits = hearer.answer_logits(task.frozen()["one"], before, answer, answer >= 0)
            expected = cross_entropy(logits, answer)[row].sum()
            assert found[row, i] == pytest.approx(float(expected), abs=1e-4)


def test_answers_are_of_a_model_whose_layers_read_the_wire(ran):
    task, _, _, result = ran
    params = jax.tree.map(lambda x: x, result.state.params)
    block = params["latent_adapters_one"]["0"]
    block["down"] = jax.tree.map(lambda x: 30 * x, block["down"])
    params, batch = jax.tree.map(
        jnp.asarray, (params, nested(task.batches("validation")[0], lengths=False))
    )
    z = task.modules.encode(params, batch).of("one")
    before = task.modules.hear(params, task.frozen()["one"], "one", z)
    mute = before.replace(reading=None)
    assert answers(task, "one", before) != answers(task, "one", mute)


def test_what_the_teacher_knows_comes_with_the_batches(config):
    losses = replace(config.losses, distil=1.0, distil_cache=4, states=0.0)
    task = make(replace(config, losses=losses))
    batch = task.batches("train")[0]
    assert batch["one/taught_ids"].shape == batch["one/taught_logs"].shape == (8, 3, 4)
    assert (np.exp(batch["one/taught_logs"]).sum(-1) < 1).all()
    assert "one/taught_ids" not in task.batches("validation")[0]


def test_rows_hold_what_they_say(config):
    source = make(config).source
    rows, example = source.rows("train"), source.splits["train"][0]
    own = {key.removeprefix("one/"): array[0] for key, array in rows.items() if "/" in key}
    words = source.tokenizers["one"]
    text = text_of(example)
    assert bytes(rows["bytes"][0][rows["bytes_mask"][0]].astype(np.uint8)).decode() == text[:32]
    answer = own["answer"][own["answer_mask"]].tolist()
    assert words.decode(answer[:-1]) == example.answers[0]
    assert own["answer"][own["answer_mask"]][-1] == words.eos_id
    assert own["text_mask"][-1] and own["text"][-1] == words.encode("w2")[0]
    assert own["short_mask"].sum() == models.SLOTS + 1
    read = replace(config, encoder=replace(config.encoder, padding="read"))
    assert make(read).source.rows("train")["bytes_mask"].all()


def test_options_that_do_not_go_together():
    warm = Losses(curriculum=Curriculum(warmup=2))
    wrong = {
        "adapter.prefix_width": LatentWire(adapter=Adapter(deep=True, prefix_width=8), losses=warm),
        "prefix_width": Adapter(prefix_width=8),
        "layers": Adapter(layers=(1, 1)),
        "evaluation.slots": LatentWire(evaluation=Evaluation(slots=(4, 32))),
        "distil_cache": Losses(distil_cache=4, text=1.0),
        "state_layers": Losses(states=1.0, state_layers=()),
        "dropped": Gist(dropped=1.0),
        "refiner_heads": Encoder(refiner=1, refiner_heads=3),
        "soft_prompt": Adapter(soft_prompt=False),
        "piece": Data(piece=4),
    }
    [(named, _)] = Losses(distil_cache=4, states=1.0).problems()
    assert named == "distil_cache"
    for key, options in wrong.items():
        [(named, message)] = options.problems()
        assert named == key and "allowed:" in message
    assert not [*LatentWire(adapter=Adapter(deep=True, prefix_width=8)).problems()]


def test_layers_that_a_model_does_not_have(config):
    for key, wrong in {
        "losses.state_layers": replace(config.losses, state_layers=(2,)),
        "adapter.layers": replace(config.adapter, layers=(1,)),
    }.items():
        part = key.split(".")[0]
        with pytest.raises(UserError, match=f"task.{key}: one has no layer"):
            make(replace(config, **{part: wrong}))


def test_names_and_pieces():
    assert lm_names(("glassllm:en", "/a/b/SmolLM-1.gguf")) == ("glassllm_en", "SmolLM_1")
    pieces = cut(Example("w1 w2 w3 w4 w5", "", ("x",)), tokenizer(), 2)
    assert [piece.context for piece in pieces] == ["w1 w2", "w3 w4"]
    assert pieces[0].answers == ("w1 w2",)
