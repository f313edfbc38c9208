"""Llama-2-7B, full fine-tuning on GSM8K, on a v5e-16 slice.

Command:   on every host, all with the same workdir on storage mounted by all:
           python -m launchers.sft --config=configs/sft_llama2_7b_pod.py --distributed \
               --workdir=/mnt/shared/sft_llama2 --config.model.name=DIR_OF_LLAMA_2_7B
Hardware:  TPU v5e-16 (4x4). Not run on one.
Hyper-parameters: SFT of Stage I as far as they are known (reference: learning rate 1e-4 is
           unverified; 2e-5 is the usual one of full fine-tuning at this size).
"""

import ml_collections

from w2s_jax.training.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """bfloat16 compute, float32 masters, weights and moments spread over all chips."""
    config = training_config()
    config.model.name = "meta-llama/Llama-2-7b-hf"  # a local directory
    config.model.dtype = "bfloat16"
    config.data.source = "gsm8k"
    config.data.prompt = "Question: {question}\nAnswer:"
    config.data.completion = " {solution}"
    config.data.remove = "<<.*?>>"
    config.data.length = 1024
    config.data.batch = 32
    config.data.packed = True
    config.held_out.source = "gsm8k"
    config.held_out.limit = 256
    config.optimizer.learning_rate = 2e-5
    config.optimizer.warmup_steps = 20
    config.run.epochs = 2
    config.run.eval_every = 50
    config.mesh.fsdp = -1
    return config
