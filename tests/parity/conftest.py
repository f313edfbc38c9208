"""Live comparisons: quiet third-party imports, and the small models' definitions."""

import importlib.util
import pathlib
import warnings

import pytest


@pytest.fixture(scope="session")
def transformers():
    """The transformers package, without its progress bars."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        # torch and transformers use deprecated spellings of each other while they are imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        module = pytest.importorskip("transformers")
    module.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    return module


@pytest.fixture(scope="session")
def figures():
    """The module that defines the small models."""
    path = pathlib.Path(__file__).with_name("make_figures.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
