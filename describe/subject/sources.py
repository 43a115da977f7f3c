"""MODEL → files on this machine: packaged alias, local folder, `.gguf` file or hub id with its revision."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from describe.errors import InputError
from describe.packaged import GEMMA3_270M, SMOLLM2, Package, Progress, unpacked

ALIASES: dict[str, Package] = {package.label: package for package in (SMOLLM2, GEMMA3_270M)}

_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[^@\s]+))?")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
# top-level files only: folders of a hub repository hold other formats or second copies of the weights
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer*", "merges.txt", "vocab.*"]
_HUB_NOT = ["*/*", "consolidated*.safetensors", "*.bin", "*.bin.index.json"]


@dataclass(frozen=True)
class Checkpoint:
    """A subject model's files; exactly one of `folder` and `gguf` is set."""

    name: str  # the catalogue's model id, with its revision where there is one; never a path
    folder: Path | None
    gguf: Path | None


def resolve(model: str, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Checkpoint:
    """Find, and if necessary fetch, the files of MODEL.

    Args:
        model: `smollm2` or `gemma3-270m`; a local folder; a `.gguf` file; or a hub id, with `@revision` if
            wanted. A name that `Checkpoint.name` gave for an alias or a hub model is understood too.
        cache_dir: where packaged models are unpacked (default: the user's cache); hub models stay in the
            hub's own cache, which HF_HOME and HF_HUB_OFFLINE rule as usual.
        progress: called with (label, bytes done, bytes in all) while something is fetched.

    Raises:
        InputError: MODEL is none of these, cannot be fetched, or has weights only in an unsafe format.
    """
    model = model.strip()
    if not model:
        raise InputError(f"MODEL is empty: give {_kinds()}.")
    packaged = _packaged(model)
    if packaged is not None:
        path = unpacked(packaged, cache_dir=cache_dir, progress=progress)
        return Checkpoint(name=f"{packaged.label}@{packaged.version}", folder=None, gguf=path)
    path = Path(model).expanduser()
    if path.is_dir():
        return _local_folder(path)
    if path.is_file():
        return _local_file(path)
    if model.lower().endswith(".gguf"):
        raise InputError(f"'{model}' does not exist: check the path of the GGUF file.")
    match = _HUB_ID.fullmatch(model)
    if match is None or model.startswith((".", "~")):
        raise InputError(_unknown(model))
    return _hub(match["id"], match["revision"], progress)


def _kinds() -> str:
    aliases = ", ".join(ALIASES)
    return f"a packaged model ({aliases}), a local folder, a .gguf file or a hub id such as org/name"


def _packaged(model: str) -> Package | None:
    """The packaged model that MODEL names, if it does; an alias may carry its version as a revision."""
    alias, _, version = model.partition("@")
    package = ALIASES.get(alias)
    if package is not None and version not in ("", package.version):
        raise InputError(
            f"'{model}' is not available: '{alias}' is packaged in version {package.version} only, "
            f"so give '{alias}' alone."
        )
    return package


def _unknown(model: str) -> str:
    close = difflib.get_close_matches(model.lower(), ALIASES, n=1, cutoff=0.5)
    hint = f"perhaps '{close[0]}' was meant; give" if close else "give"
    return f"'{model}' is no model that can be found: {hint} {_kinds()}."


def _local_folder(folder: Path) -> Checkpoint:
    """A folder as transformers writes it: config.json and safetensors."""
    name = folder.resolve().name
    if not (folder / "config.json").is_file():
        found = sorted(folder.glob("*.gguf"))
        advice = f"give the file '{found[0].name}' in it" if found else "give the folder that holds it"
        raise InputError(f"The folder '{name}' has no config.json: {advice}.")
    _require_safetensors(folder, name)
    return Checkpoint(name=name, folder=folder.resolve(), gguf=None)


def _require_safetensors(folder: Path, name: str) -> None:
    """Weights must be safetensors: unpickling a checkpoint would run whatever code it carries."""
    if any(folder.glob("*.safetensors")) or (folder / "model.safetensors.index.json").is_file():
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise InputError(
            f"'{name}' has its weights in '{pickles[0]}': only safetensors or GGUF are read, never pickles, "
            "so convert it with transformers' save_pretrained on a machine that trusts the file."
        )
    found = sorted(folder.glob("*.gguf"))
    advice = f"give the file '{found[0].name}' in it" if found else "give a model that has them"
    raise InputError(f"'{name}' holds no safetensors weights: {advice}.")


def _local_file(path: Path) -> Checkpoint:
    if path.suffix.lower() == ".gguf":
        return Checkpoint(name=path.name, folder=None, gguf=path.resolve())
    if path.suffix in _PICKLES:
        raise InputError(
            f"'{path.name}' may be a pickle: only safetensors or GGUF are read, never pickles, so convert it "
            "with transformers' save_pretrained on a machine that trusts the file."
        )
    if path.suffix == ".safetensors":
        raise InputError(f"'{path.name}' is only the weights: give the folder with its config.json.")
    raise InputError(f"'{path.name}' is no model file: give {_kinds()}.")


def _hub(repository: str, revision: str | None, progress: Progress | None) -> Checkpoint:
    """A snapshot of a hub repository; its commit is part of the name, so a moved branch is another model."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=_HUB_FILES,
                ignore_patterns=_HUB_NOT,
                tqdm_class=_reporting_bar(repository, progress),
            )
        )
    except Exception as error:  # the hub client raises its own, httpx's, urllib's and the system's errors
        raise InputError(_hub_failure(repository, revision, error)) from error
    if not (folder / "config.json").is_file():
        raise InputError(
            f"The hub model '{repository}' has no config.json: give a repository in transformers' format, or "
            "download its .gguf file and give that."
        )
    _require_safetensors(folder, repository)
    return Checkpoint(name=f"{repository}@{folder.name}", folder=folder, gguf=None)


def _hub_failure(repository: str, revision: str | None, error: Exception) -> str:
    """One sentence for whatever the hub client raised; the first matching class is the most specific."""
    from huggingface_hub import errors

    at = f" at revision '{revision}'" if revision else ""
    if isinstance(error, errors.GatedRepoError):
        return (
            f"The hub model '{repository}' is gated: accept its licence on its hub page and log in with "
            "`hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"The hub model '{repository}' has no revision '{revision}': check the branch, tag or commit."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"'{repository}' is neither a local folder nor a model that the hub shows you: check the "
            "spelling, or log in with `hf auth login` if it is private."
        )
    if isinstance(error, errors.HFValidationError):
        return f"'{repository}' is not a valid hub id: write it like org/name or org/name@revision."
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError | ConnectionError):
        return (
            f"The hub model '{repository}'{at} is not in the local hub cache and the hub cannot be reached: "
            "connect, unset HF_HUB_OFFLINE, or give a local folder."
        )
    return f"The hub model '{repository}'{at} cannot be fetched ({brief(error)}): try again or give a local folder."


def brief(error: Exception) -> str:
    """What a library's error says, short and without full stops, to stand inside a sentence of ours."""
    text = " ".join(str(error).split()).replace(". ", "; ")
    return text[:160].rstrip(".;:, ") or type(error).__name__


def _reporting_bar(label: str, progress: Progress | None) -> type[Any]:
    """A silent progress bar class for the hub client that passes bytes on to `progress`."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # a lazy export

    class ReportingBar(tqdm):
        """Counts by itself, because a disabled tqdm does not."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # passed on as they come
            self._counts_bytes = kwargs.get("unit") == "B" and "transfer" not in str(kwargs.get("name"))
            self._bytes = 0
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above

        def update(self, n: float | None = 1) -> None:
            """Add bytes; called from the client's download threads."""
            if self._counts_bytes and progress is not None:
                self._bytes += int(n or 0)
                progress(f"fetching {label}", self._bytes, max(int(self.total or 0), self._bytes))

    return ReportingBar
