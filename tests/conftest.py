"""One environment for every test: eight CPU devices, and no real hardware for the TPU compiler."""

import os

# Before jax is imported anywhere. The TPU_* values let libtpu describe a topology without a TPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")

import hypothesis
import jax

jax.config.update("jax_num_cpu_devices", 8)

hypothesis.settings.register_profile("repo", deadline=None, derandomize=True, max_examples=40)
hypothesis.settings.load_profile("repo")
