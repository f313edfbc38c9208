"""Imported first by all that needs more than jax: one line says which extra to install.

`leco_jax.scoring` and `leco_jax.storage` do not import it.
"""

import importlib.util

# What the extra `experiments` installs, by the names under which it is imported.
MODULES = (
    "absl", "array_record", "flax", "gguf", "google.protobuf", "jinja2", "ml_collections", "optax",
    "orbax.checkpoint", "safetensors", "sentencepiece", "tensorflow_datasets", "tokenizers", "tqdm",
)  # fmt: skip


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name
        return False


def missing_modules() -> list[str]:
    """Those of `MODULES` that are not installed; none of them is imported."""
    return [module for module in MODULES if not _installed(module)]


_MISSING = missing_modules()
if _MISSING:
    raise ModuleNotFoundError(
        "all of leco_jax and w2s_jax but leco_jax.scoring needs the extra `experiments` "
        f"(missing: {', '.join(_MISSING)}): pip install 'leco-jax[experiments]'",
        name=_MISSING[0],
    )
