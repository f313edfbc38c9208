"""One call for every kind of model: a name, a directory, or a GGUF file."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
from gguf import GGUFReader
from jax.sharding import Mesh, NamedSharding

from leco_jax.examples import BUNDLED, bundled_path
from leco_jax.models.config import ModelConfig
from leco_jax.models.llama import Llama
from leco_jax.models.loading.assemble import CheckpointError
from leco_jax.models.loading.fetch import MODELS, fetch
from leco_jax.models.loading.gguf import gguf_config, load_gguf, open_gguf
from leco_jax.models.loading.huggingface import load_huggingface, read_json
from leco_jax.models.loading.huggingface_config import huggingface_config
from leco_jax.models.sharding import RULES, Rules
from leco_jax.models.weights import Params
from leco_jax.storage.paths import as_path
from leco_jax.text.tokenizer import Tokenizer, load_tokenizer, tokenizer_from_gguf


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model (an `nnx.Module`) and its tokenizer."""

    model: Llama
    tokenizer: Tokenizer

    @property
    def config(self) -> ModelConfig:
        """The model's sizes and settings."""
        return self.model.config

    @property
    def params(self) -> Params:
        """The model's own arrays as a nested dict; see `Llama.params`."""
        return self.model.params

    def on(self, mesh: Mesh) -> "LoadedModel":
        """A copy on another mesh, each weight spread over its axes as over those of its own."""
        params = jax.tree.map(
            lambda x: jax.device_put(x, NamedSharding(mesh, x.sharding.spec)), self.params
        )
        return LoadedModel(Llama(self.config, params=params), self.tokenizer)


def load_model(
    name_or_path: str | Path,
    *,
    mesh: Mesh | None = None,
    rules: Rules = RULES,
    dtype: str | None = None,
    param_dtype: str | None = None,
    unstacked: bool = False,
) -> LoadedModel:
    """Loads a model's config, weights and tokenizer.

    Args:
      name_or_path: a key of `MODELS` or `BUNDLED`, a Hugging Face directory, a directory in Orbax's
        format (see `save_orbax`), or a .gguf file.
      mesh: where the weights go; None: the default device.
      rules: logical axis -> mesh axis.
      dtype: of activations and matrix products; default: the checkpoint's (GGUF: float32).
      param_dtype: in which weights are kept; default: `dtype`, else the checkpoint's.
      unstacked: "layers" as a list of one dict per layer, the form that decoding needs, so that an
        engine holds no copy of its own.

    Returns:
      The module and the tokenizer, whose size is `config.valid_vocab` where the embedding has more
      rows.

    Raises:
      FileNotFoundError: neither a known name nor an existing path, or a file is missing.
      ModelNotAvailableError: a named model that can't be fetched.
      CheckpointError: files that this library can't use; the message lists all that is wrong.
    """
    path = _resolved(name_or_path)
    reader = None if path.is_dir() else open_gguf(path)
    config, tokenizer = _described(path, reader, dtype, param_dtype)
    if reader is not None:
        with _one_message(path):
            params = load_gguf(reader, config, mesh=mesh, rules=rules, where=str(path))
    elif (path / "params").is_dir():
        from leco_jax.models.loading.orbax import load_orbax  # a second that few need to wait

        params = load_orbax(path, config, mesh=mesh, rules=rules)
    else:
        params = load_huggingface(path, config, mesh=mesh, rules=rules)
    model = Llama(config, params=params)
    del params  # the module alone holds the weights while they are unstacked
    if unstacked:
        model.unstack()
    return LoadedModel(model, tokenizer)


def load_config(
    name_or_path: str | Path, *, dtype: str | None = None, param_dtype: str | None = None
) -> tuple[ModelConfig, Tokenizer]:
    """Loads a model's config and tokenizer and leaves its weights alone; see `load_model`."""
    path = _resolved(name_or_path)
    return _described(path, None if path.is_dir() else open_gguf(path), dtype, param_dtype)


@contextlib.contextmanager
def _one_message(path: Path) -> Iterator[None]:
    """Turns what the readers of a damaged file raise into a CheckpointError that names it."""
    try:
        yield
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:  # tokenizers raises nothing more precise
        raise CheckpointError(
            f"{path}: damaged, or a setting has a value of the wrong kind ({error})"
        ) from error


def _resolved(name_or_path: str | Path) -> Path:
    """The directory of a Hugging Face or Orbax model, or a GGUF file; fetched if need be."""
    path, name = as_path(name_or_path).expanduser(), str(name_or_path)
    if not path.exists() and name in BUNDLED:
        path = bundled_path(name)
    elif not path.exists() and name in MODELS:
        path = fetch(MODELS[name])
    elif not path.exists():
        raise FileNotFoundError(
            f"{name}: no such file or directory, and no model of that name; names: "
            + ", ".join((*MODELS, *BUNDLED))
        )
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise FileNotFoundError(
                f"{path}: has neither a config.json (Hugging Face) nor one .gguf file"
            )
        return files[0]
    return path


def _described(
    path: Path, reader: GGUFReader | None, dtype: str | None, param_dtype: str | None
) -> tuple[ModelConfig, Tokenizer]:
    """The config, with the caller's dtypes and the tokenizer's vocabulary, and the tokenizer."""
    if reader is None:
        with _one_message(path):
            tokenizer = load_tokenizer(path)
        raw = read_json(path / "config.json")
        with _one_message(path / "config.json"):
            config = huggingface_config(raw)
    else:
        with _one_message(path):
            tokenizer, config = tokenizer_from_gguf(reader), gguf_config(reader)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} ids and the embedding {config.vocab_size} "
            "rows: use the tokenizer that the model was trained with"
        )
    config = config.replace(
        dtype=dtype or config.dtype,
        param_dtype=param_dtype or dtype or config.param_dtype,
        valid_vocab=tokenizer.vocab_size if tokenizer.vocab_size < config.vocab_size else None,
    )
    return config, tokenizer
