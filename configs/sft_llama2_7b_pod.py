"""Llama-2-7B, full fine-tuning on GSM8K, on a v5e-16 slice.

Command:   on every host, all with the same workdir on storage mounted by all:
           python -m launchers.sft --config=configs/sft_llama2_7b_pod.py \
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
    config.data.update(
        source="gsm8k",
        prompt="Question: {question}\nAnswer:",
        completion=" {solution}",
        remove="<<.*?>>",
        length=1024,
        batch=32,
        packed=True,
    )
    config.held_out.update(source="gsm8k", limit=256)
    config.optimizer.update(learning_rate=2e-5, warmup_steps=20)
    config.run.update(epochs=2, eval_every=50)
    return config
