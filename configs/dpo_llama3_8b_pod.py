"""Llama-3-8B, DPO with full weights, 16 pairs x 2048 tokens a step, on a v5e-16 slice.

Command:   on every host, all with the same workdir on storage mounted by all:
           python -m launchers.dpo --config=configs/dpo_llama3_8b_pod.py \
               --workdir=/mnt/shared/dpo_llama3 --config.model.name=DIR_OF_LLAMA_3_8B \
               --config.data.source=PAIRS.jsonl
Hardware:  TPU v5e-16 (4x4). Not run on one. The TPU compiler plans 6.0 GB a chip held between steps
           and 7.1 GB beside it in a step, of 16.9 GB (python -m benchmarks.training_tpu).
"""

import ml_collections

from w2s_jax.training.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """bfloat16 compute, float32 masters, weights and moments spread over all chips."""
    config = training_config()
    config.model.name = "meta-llama/Meta-Llama-3-8B"  # a local directory
    config.model.dtype = "bfloat16"
    config.data.update(length=2048, batch=16)
    config.held_out.rows = 128
    config.objective.name = "dpo"
    config.optimizer.update(learning_rate=1e-6, warmup_steps=20)
    config.run.eval_every = 100
    return config
