"""Converts a model between formats.

    python -m launchers.convert --input=smollm2-135m-instruct --output=runs/smollm2
    python -m launchers.convert --input=model.gguf --format=orbax --output=runs/orbax
    python -m launchers.convert --input=runs/sft --output=runs/model --dtype=bfloat16

Input: a known name, a Hugging Face directory, a .gguf file, a directory in Orbax's format, or the
workdir of a training run (its newest checkpoint; adapters are merged). Output: a Hugging Face
directory that transformers loads, or Orbax's format, which every process of a pod writes and reads
in parallel. GGUF is read only; llama.cpp's convert_hf_to_gguf.py makes one of the former.

Exit codes: 0 done; 1 the input is no such model, or the output holds one already.
"""

from absl import flags

from launchers import processes, runtime
from leco_jax.models.loading.export import export_huggingface
from leco_jax.models.loading.orbax import save_orbax
from leco_jax.models.sharding import make_mesh
from leco_jax.storage.paths import check_output
from w2s_jax.training.initial_weights import read_model

_INPUT = flags.DEFINE_string("input", None, "model to read", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "directory to write", required=True)
_FORMAT = flags.DEFINE_enum("format", "huggingface", ["huggingface", "orbax"], "format to write")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "dtype of the weights; default: the input's"
)
_SHARD_GB = flags.DEFINE_float(
    "shard_gb", 5.0, "largest safetensors file, in 10^9 bytes", lower_bound=1e-6
)


def main() -> int:
    """Converts one model."""
    target = check_output(_OUTPUT.value, inputs=[_INPUT.value], directory=True)
    model = read_model(_INPUT.value, make_mesh(fsdp=-1), dtype=_DTYPE.value)
    if _FORMAT.value == "orbax":
        save_orbax(target, model.model, model.tokenizer)
    else:
        size = int(_SHARD_GB.value * 1e9)
        export_huggingface(target, model.model, model.tokenizer, shard_bytes=size)
    print(f"{_INPUT.value} -> {_OUTPUT.value} ({_FORMAT.value}, {model.config.param_dtype})")
    return runtime.DONE


if __name__ == "__main__":
    runtime.run(processes.together(main))
