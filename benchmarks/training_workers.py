"""One trainer in a process of its own, which takes a step whenever it is told to.

`benchmarks/training.py` starts it with an interpreter that has the trainer installed:

    PYTHON benchmarks/training_workers.py NAME MODEL_DIR PAIRS LENGTH PROMPT

It answers "ready", then to every line a JSON object {"seconds", "loss", "memory"}: the step's time,
its loss, and the most memory that the process ever held, in bytes. Each trainer is called through
its own public training step, with the same token ids; each keeps float32 weights and AdamW's state.
"""

import contextlib
import json
import os
import resource
import sys
import time

import numpy as np


def token_ids(pairs: int, length: int, vocabulary: int, prompt: int):
    """Random prompts [pairs, P] and completions [pairs, T - P], the latter twice."""
    random = np.random.default_rng(0)
    draw = lambda n: random.integers(10, vocabulary - 10, (pairs, n))  # noqa: E731
    return draw(prompt), draw(length - prompt), draw(length - prompt)


def ours(kind: str, model_dir: str, pairs: int, length: int, prompt: int, remat: str):
    """This library's step."""
    import jax

    from leco_jax.models.loading import load_model
    from leco_jax.models.sharding import make_mesh
    from w2s_jax.training.objectives import Objective
    from w2s_jax.training.optimizer import OptimizerConfig, make_optimizer, make_schedule
    from w2s_jax.training.train_step import (
        StepConfig,
        init_state,
        make_train_step,
        place_batch,
        split_model,
    )

    mesh = make_mesh(devices=jax.devices()[:1])
    loaded = load_model(model_dir, mesh=mesh, dtype="float32", param_dtype="float32")
    vocab_size = loaded.config.vocab_size
    optimizer = OptimizerConfig(learning_rate=1e-6, schedule="constant")
    tx = make_optimizer(optimizer, 1000)
    graph, weights, _ = split_model(loaded.model)
    state, shardings = init_state(weights, tx, mesh)
    del loaded, weights
    step = make_train_step(
        graph=graph,
        objective=Objective(name=kind),
        tx=tx,
        schedule=make_schedule(optimizer, 1000),
        mesh=mesh,
        shardings=shardings,
        config=StepConfig(
            reference="stored" if kind == "dpo" else "none",
            remat=remat,
            most_scored=length + 1 - prompt,
        ),
    )
    prompts, chosen, rejected = token_ids(pairs, length + 1, vocab_size, prompt)
    sides = (chosen, rejected) if kind == "dpo" else (chosen,)
    rows = np.concatenate([np.concatenate([prompts, side], axis=1) for side in sides])
    at = np.broadcast_to(np.arange(length), (len(rows), length))
    batch = {
        "tokens": rows[:, :-1].astype(np.int32),
        "targets": rows[:, 1:].astype(np.int32),
        "loss_mask": (at >= prompt - 1).astype(np.float32),
        "positions": at.astype(np.int32),
        "segment_ids": np.ones_like(at, np.int32),
    }
    if kind == "dpo":
        batch["reference_logprob"] = np.zeros(len(rows), np.float32)
    with jax.set_mesh(mesh):
        while True:
            placed = place_batch(batch, mesh, pairs=kind == "dpo")
            state, metrics = step(state, {}, placed)
            yield float(metrics["loss"])


def _torch_steps(trainer):
    """Yields the loss of every step of a transformers Trainer's own training loop."""
    import threading

    from transformers import TrainerCallback

    go, done, losses = threading.Semaphore(0), threading.Semaphore(0), []

    class Turns(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            go.acquire()

        def on_step_end(self, *args, **kwargs):
            done.release()

        def on_log(self, args, state, control, logs=None, **kwargs):
            losses.append((logs or {}).get("loss"))

    trainer.add_callback(Turns())
    threading.Thread(target=trainer.train, daemon=True).start()
    while True:
        go.release()
        done.acquire()
        yield losses[-1] if losses else None


def trl_dpo(model_dir: str, pairs: int, length: int, prompt: int, checkpointing: bool):
    """TRL's DPOTrainer, reference log-probabilities computed beforehand."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="float32")
    prompts, chosen, rejected = token_ids(pairs, length + 1, model.config.vocab_size, prompt)
    rows = [
        {"prompt_ids": p, "chosen_ids": c, "rejected_ids": r, "ref_chosen_logps": 0.0}
        | {"ref_rejected_logps": 0.0}
        for p, c, r in zip(prompts.tolist(), chosen.tolist(), rejected.tolist(), strict=True)
    ]
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    config = DPOConfig(
        output_dir=os.path.join(model_dir, "trl"),
        per_device_train_batch_size=pairs,
        max_length=length + 1,
        max_steps=1000,
        learning_rate=1e-6,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=checkpointing,
        precompute_ref_log_probs=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )

    class Prepared(DPOTrainer):
        """The rows hold token ids and reference values already."""

        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

        def _precompute_ref_logps(self, dataset, *args, **kwargs):
            return dataset

    data = Dataset.from_list(rows)
    return _torch_steps(
        Prepared(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    )


def transformers_sft(model_dir: str, pairs: int, length: int, prompt: int):
    """The transformers Trainer on rows of prompt and completion."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="float32")
    prompts, chosen, _ = token_ids(pairs, length + 1, model.config.vocab_size, prompt)
    rows = [
        {"input_ids": [*p, *c], "labels": [-100] * len(p) + list(c)}
        for p, c in zip(prompts.tolist(), chosen.tolist(), strict=True)
    ]
    config = TrainingArguments(
        output_dir=os.path.join(model_dir, "transformers"),
        per_device_train_batch_size=pairs,
        max_steps=1000,
        learning_rate=1e-6,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    return _torch_steps(
        Trainer(
            model=model,
            args=config,
            train_dataset=rows,
            data_collator=lambda rows: {k: torch.tensor([r[k] for r in rows]) for k in rows[0]},
        )
    )


def tunix_dpo(model_dir: str, pairs: int, length: int, prompt: int, remat: str):
    """Tunix's DPOTrainer and its compiled step, without a reference model beside it."""
    import jax
    import optax
    from flax import nnx
    from tunix.models.llama3 import model as llama
    from tunix.sft.dpo.dpo_trainer import DPOTrainer, DPOTrainingConfig, TrainingInput

    with open(os.path.join(model_dir, "config.json")) as file:
        shape = json.load(file)
    config = llama.ModelConfig(
        num_layers=shape["num_hidden_layers"],
        vocab_size=shape["vocab_size"],
        embed_dim=shape["hidden_size"],
        hidden_dim=shape["intermediate_size"],
        num_heads=shape["num_attention_heads"],
        head_dim=shape["hidden_size"] // shape["num_attention_heads"],
        num_kv_heads=shape["num_key_value_heads"],
        norm_eps=shape["rms_norm_eps"],
        rope_theta=100_000,
        weight_tying=shape["tie_word_embeddings"],
        remat_config=llama.RematConfig[remat],
    )
    # One device as a mesh; its weights are random, which changes no time.
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        model = llama.Llama3(config, rngs=nnx.Rngs(0))
        trainer = DPOTrainer(
            model=model,
            ref_model=None,
            optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-6)),
            training_config=DPOTrainingConfig(eval_every_n_steps=10**9, max_steps=1000),
        )
        prompts, chosen, rejected = token_ids(pairs, length + 1, config.vocab_size, prompt)
        fields = {"prompt": prompts, "chosen": chosen, "rejected": rejected}
        given = TrainingInput(
            **{f"{name}_ids": ids for name, ids in fields.items()},
            **{f"{name}_mask": np.ones_like(ids) for name, ids in fields.items()},
        )
        step, _ = trainer.jit_train_and_eval_step()
        while True:
            found = step(trainer._prepare_inputs(given))
            yield float(jax.block_until_ready(found)[0])


WORKERS = {
    "ours-dpo": lambda *a: ours("dpo", *a, "full"),
    "ours-sft": lambda *a: ours("sft", *a, "full"),
    "trl": lambda *a: trl_dpo(*a, False),
    "trl-checkpointing": lambda *a: trl_dpo(*a, True),
    "transformers-sft": transformers_sft,
    "tunix": lambda *a: tunix_dpo(*a, "NONE"),
    "tunix-remat": lambda *a: tunix_dpo(*a, "DECODER"),
}


def main() -> None:
    """Answers each line of the input with a step."""
    name, model_dir, *sizes = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    # What the trainers print goes to the error stream; the answers stay alone.
    os.dup2(2, 1)
    with contextlib.redirect_stdout(sys.stderr):
        steps = WORKERS[name](model_dir, *map(int, sizes))
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            loss = next(steps)
            seconds = time.perf_counter() - start
            memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer = {"seconds": seconds, "loss": loss, "memory": memory}
            print(json.dumps(answer), file=answers, flush=True)
    answers.flush()
    # A trainer's loop may wait in a thread for a step that never comes.
    os._exit(0)


if __name__ == "__main__":
    main()
