"""A pipeline with every kind of stage that ends in a minute."""

from w2s_jax.pipeline.pipeline_config import w2s_config


def get_config(which="whole"):
    """The config; the "short" one has one round and one preference loss."""
    config = w2s_config()
    if which == "short":
        config.stage1.rounds = 1
        config.stage2.objectives = ("dpo",)
    config.data.name = "arithmetic_chains"
    config.data.split = "validation"
    config.data.gold_questions = 8
    config.data.questions = 12
    config.data.test_questions = 6
    config.weak.model = "arithmetic-1m"
    config.strong.model = "arithmetic-base-1m"
    for training in (config.weak.sft, config.strong.sft, *config.preference.values()):
        training.data.length = 256
        training.data.batch = 8
        training.optimizer.learning_rate = 1e-5
        training.step.remat = "none"
        training.step.stats = ()
        training.run.num_steps = 2
        training.run.checkpoint_every = 1
    config.stage2.samples = 4
    config.stage2.threshold = 0.25
    config.stage2.weak_rejected_threshold = 0.25
    config.generation.max_new_tokens = 128
    config.generation.slots = 16
    config.evaluation.samples = 2
    config.evaluation.resamples = 50
    return config
