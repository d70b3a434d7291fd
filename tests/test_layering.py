"""The arrows of the architecture: who may import whom (docs/tour.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "jaxgraph"
SYSTEMS = {"moe", "vae", "neurograph", "latentwire"}
# A module's room, and the rooms it may import. Light ones are open to everybody.
LIGHT = {"errors", "fields", "problems"}
ALLOWED = {
    "nn": {"nn"},
    "lm": {"nn", "lm"},
    "data": {"data"},
    "train": {"train", "nn"},
    "interop": {"interop", "runs", "systems", "nn", "lm", "data", "train", "config", *SYSTEMS},
    "systems": {"config", "train", *SYSTEMS},
    "config": {"config", "train", "data", *SYSTEMS},
    "runs": {"config", "systems", "train"},
    "plots": {"config", "train"},
    "": {"config", "systems"},
} | {name: {name, "nn", "lm", "data", "train"} for name in SYSTEMS}
# Models know no optimiser, no data and no loop: only a task and its sources do.
MODELS_MAY_IMPORT = {"nn", "lm"}
NOT_MODELS = {"task", "objective", "sources", "config", "__init__"}
LIBRARIES = {
    "torch": {"interop", "lm/load"},
    "transformers": {"interop", "lm/load"},
    "safetensors": {"interop", "lm/load"},
    "grain": {"data"},
    "orbax": {"train/checkpoint"},
    "tyro": {"config"},
    "tensorboardX": {"train/metrics"},
    "tokenizers": {"data", "lm/load"},
    "matplotlib": {"plots"},
    "gmpy2": {"data"},
    "grpc": {"data"},
    "zmq": {"data"},
}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT).with_suffix(""))


def imports(module):
    """Names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module):
    first = module.split("/")[0]
    if first.startswith("config"):
        return "config"
    return "" if first == "__init__" else first


def own_imports(module):
    for name in imports(module):
        parts = name.split(".")
        if parts[0] == "jaxgraph" and len(parts) > 1:
            yield room(parts[1]), "/".join(parts[1:])


@pytest.mark.parametrize("module", list(modules()))
def test_arrows(module):
    own = room(module)
    allowed = ALLOWED.get(own, set()) | LIGHT | {own}
    for target, full in own_imports(module):
        # A dataclass of options is light, and may be read where its meaning is carried out.
        if full.split("/")[1:2] == ["config"] and target in ("train", "data", own):
            continue
        assert target in allowed, f"{module} imports {full}"
        if own in SYSTEMS and not NOT_MODELS & set(module.split("/")) and target != own:
            assert target in MODELS_MAY_IMPORT | LIGHT, f"model {module} imports {full}"


@pytest.mark.parametrize("module", list(modules()))
def test_libraries_stay_in_their_rooms(module):
    for name in imports(module):
        rooms = LIBRARIES.get(name.split(".")[0])
        if rooms is not None:
            places = [room(module), module, *map(str, Path(module).parents)]
            assert rooms & set(places), f"{module} imports {name}"


@pytest.mark.parametrize("module", list(modules()))
def test_nobody_imports_pickle_or_loads_code(module):
    text = (ROOT / f"{module}.py").read_text()
    assert not {"pickle", "cloudpickle", "dill", "joblib"} & set(imports(module))
    assert "allow_pickle=True" not in text and "weights_only=False" not in text


def test_figures_are_drawn_from_the_log_alone():
    for module in modules():
        if room(module) == "plots":
            assert not {"jax", "flax"} & {name.split(".")[0] for name in imports(module)}, module
            trained = {full for target, full in own_imports(module) if target == "train"}
            assert trained <= {"train/metrics", "train/metrics/read_rows"}, module
        else:
            assert "plots" not in {target for target, _ in own_imports(module)}, module


def test_interop_is_imported_by_scripts_and_tests_only():
    for module in modules():
        if room(module) != "interop":
            assert "interop" not in {target for target, _ in own_imports(module)}, module
