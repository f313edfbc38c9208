"""Every field of a training config with its default; files in configs/ change some of them."""

import ml_collections


def training_config() -> ml_collections.ConfigDict:
    """Gives the fields that `launchers/sft.py` and `launchers/dpo.py` know."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # of the data's order, of fresh weights and adapters, and of dropout

    model = config.model = ml_collections.ConfigDict()
    model.name = "smollm2-135m-instruct"  # or a directory, or a .gguf file; "": a preset instead
    model.preset = ""  # fresh weights of this shape (see leco_jax.models.architectures)
    model.tokenizer = ""  # with a preset: a tokenizer file or directory
    model.checkpoint = ""  # go on from the weights that this earlier run trained: its workdir
    model.dtype = "float32"  # of matrix products
    model.param_dtype = "float32"  # in which weights are kept and updated

    lora = config.lora = ml_collections.ConfigDict()
    lora.rank = 0  # 0: all weights are trained
    lora.alpha = 16.0
    lora.dropout = 0.0
    lora.targets = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    )  # fmt: skip
    lora.layers = ()  # (): all

    data = config.data = ml_collections.ConfigDict()
    data.source = ""  # a .jsonl file, or the name of a data set ("gsm8k")
    data.split = "train"  # of a data set
    data.dir = ""  # where a data set's files lie, if not in the cache
    data.limit = 0  # rows to read; 0: all
    data.prompt = "{prompt}"  # texts from a row's fields; a data set has question and solution
    data.completion = "{completion}"
    data.chosen = "{chosen}"
    data.rejected = "{rejected}"
    data.remove = ""  # a regular expression taken out of every field
    data.chat = False  # put the prompt into the tokenizer's chat template
    data.length = 512  # positions of a row
    data.batch = 8  # rows (pairs) of a step
    data.packed = False  # several examples in a row (SFT)

    held_out = config.held_out = ml_collections.ConfigDict()
    held_out.rows = 0  # rows kept from training, for evaluation; or
    held_out.source = ""  # data of its own, read like data.source
    held_out.split = "test"
    held_out.limit = 0

    objective = config.objective = ml_collections.ConfigDict()
    objective.name = "sft"  # see w2s_jax.training.objectives.Objective for all of these
    objective.reduction = "token"
    objective.beta = ml_collections.config_dict.placeholder(float)  # None: the objective's own
    objective.flip = 0.1
    objective.gamma = ml_collections.config_dict.placeholder(float)
    objective.nll = "completion"
    objective.sft_weight = 0.0

    # "frozen", "lora_off", "stored" or "none"; "auto": none if the objective has no use for one,
    # else lora_off with LoRA and stored without.
    config.reference = "auto"

    optimizer = config.optimizer = ml_collections.ConfigDict()
    optimizer.name = "adamw"  # see w2s_jax.training.optimizer.OptimizerConfig
    optimizer.learning_rate = 1e-5
    optimizer.schedule = "cosine"
    optimizer.warmup_steps = 0
    optimizer.final_ratio = 0.0
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    optimizer.eps = 1e-8
    optimizer.weight_decay = 0.0
    optimizer.no_decay = ("norm", "bias")
    optimizer.clip_norm = 1.0  # 0: no clipping
    optimizer.moment_dtype = ""  # "": the weights' own

    step = config.step = ml_collections.ConfigDict()
    step.accumulate = 1  # see w2s_jax.training.train_step.StepConfig
    step.remat = "full"
    step.stats = ("entropy", "max_logprob")

    run = config.run = ml_collections.ConfigDict()
    run.num_steps = 0  # see w2s_jax.training.loop.RunConfig; 0: as many as `epochs` need
    run.epochs = 1
    run.log_every = 10
    run.eval_every = 0
    run.eval_batches = 8
    run.checkpoint_every = 100
    run.keep_last = 2
    run.keep_every = 0  # 0: none
    run.tensorboard = False
    run.profile_start = -1  # -1: no profile
    run.profile_steps = 3
    run.peak_tflops = 0.0  # 0: the maker's figure

    mesh = config.mesh = ml_collections.ConfigDict()
    mesh.data = 1
    mesh.fsdp = -1  # -1: all devices that are left
    mesh.tensor = 1
    return config
