"""Weak-to-strong reasoning on GSM8K with the paper's sizes: Llama-2-7B teaches Llama-2-70B.

Command:   python -m launchers.w2s --config=configs/w2s_llama2_gsm8k.py --workdir=... \
               --config.weak.model=DIR --config.strong.model=DIR
           with Hugging Face directories of the two models
Hardware:  one host of TPU v5p (4 chips of 95 GB), or several: each host generates with replicas of
           its own; a batch of 8 is shared by at most 8 chips (more: mesh.tensor, data.batch). By
           arithmetic, not compiled, a chip of 4 holds: 35 GB of the strong model's 138 GB in
           bfloat16, 69 GB for the moment in which adapters are merged; in training, 8 GB of
           activations of DPO's two pairs; in generation, 21 GB of keys and values (128 slots of
           2,048 positions). All of the weak model's weights with AdamW in float32 are 30 GB a chip.
           Eight chips of 32 GB (v6e) hold the weights, not the merging.
Time:      not run; --dry_run --devices=4 prints its bound in tokens and FLOPs

Published (arXiv 2407.13647, figure 4): weak 33.8 %, full weak fine-tuning 42.4 %, M_plus 62.6 %,
ceiling 72.0 %. Hyper-parameters follow the paper's appendix where we know it and LLaMA-Factory's
defaults elsewhere, but for rows of 1,536 tokens (there 1,024), which hold every whole answer.
GSM8K alone has 7,473 training problems; the paper added others to reach 7,000 for each part, so
here the parts are half of GSM8K.
"""

import ml_collections

from w2s_jax.pipeline.pipeline_config import w2s_config

_PROMPT = 512  # tokens left for a prompt in a row beside the longest answer
_RATES = {"orpo": 3e-5, "simpo": 1e-6}


def get_config(max_new_tokens: int = 1024) -> ml_collections.ConfigDict:
    """All weights of the weak model, LoRA of rank 8 for the strong one.

    Args:
      max_new_tokens: of an answer; training's rows are as long as that and a prompt.
    """
    config = w2s_config()
    config.data.update(name="gsm8k", remove=r"<<.*?>>", gold_questions=3_730, questions=3_730)
    for model in (config.weak, config.strong):
        model.dtype = "bfloat16"
        model.sft.optimizer.learning_rate = 1e-4
        model.sft.run.epochs = 2
    for training in (config.weak.sft, config.strong.sft, *config.preference.values()):
        training.model.dtype = training.model.param_dtype = "bfloat16"
        training.data.update(length=max_new_tokens + _PROMPT, batch=8)
    # Adam's small steps vanish in bfloat16 weights: the weak model's masters are float32.
    config.weak.sft.model.param_dtype = "float32"
    config.weak.sft.optimizer.learning_rate = 1e-5

    config.strong.sft.lora.rank = 8
    for name, training in config.preference.items():
        training.lora.rank = 8
        training.optimizer.learning_rate = _RATES.get(name, 1e-5)
        training.run.epochs = 1
    config.generation.update(max_new_tokens=max_new_tokens, slots=128, tensor=4)
    config.evaluation.samples = 10
    return config
