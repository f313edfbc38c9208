"""Writes tests/w2s_jax/training/trl_figures.json: losses and metrics of TRL itself.

Run by hand when TRL is installed (`pip install trl`), with TRL's version recorded in the file:

    python tests/parity/make_trl_figures.py

TRL keeps its losses inside trainer methods. They are called here on a bare trainer object with a
"model" that returns given log-probabilities, so that every number comes from TRL's lines.
"""

import contextlib
import json
import pathlib
import types
from collections import defaultdict

import numpy as np
import torch
import trl
from trl import DPOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer import dpo_trainer

FILE = pathlib.Path(__file__).parents[1] / "w2s_jax" / "training" / "trl_figures.json"
PAIRS, TOKENS = 4, 12


class _Alone:
    """Stands in for accelerate's Accelerator: one process, nothing to gather."""

    device = torch.device("cpu")

    def gather(self, x):
        return x

    gather_for_metrics = gather


def _inputs():
    random = np.random.default_rng(0)
    mask = np.zeros((2 * PAIRS, TOKENS), np.float32)
    for row, (start, end) in enumerate(
        [(3, 9), (4, 7), (2, 12), (5, 6), (3, 12), (4, 5), (2, 9), (5, 11)]
    ):
        mask[row, start:end] = 1
    policy = -random.gamma(1.0, 1.0, (2 * PAIRS, TOKENS)).astype(np.float32)
    reference = policy + random.normal(0, 0.7, policy.shape).astype(np.float32)
    entropy = random.gamma(2.0, 1.0, policy.shape).astype(np.float32)
    # Log-probabilities of the whole row, prompt included, for the likelihood of ORPO.
    valid = np.cumsum(mask[:, ::-1], axis=1)[:, ::-1] > 0
    arrays = {
        "mask": mask,
        "policy": np.minimum(policy, -1e-3),
        "reference": np.minimum(reference, -1e-3),
        "entropy": entropy,
        "valid": valid,
    }
    # What the file holds is what TRL sees.
    return {name: x.astype(np.float32).round(5) for name, x in arrays.items()}


def _dpo(inputs, loss_type, beta, flip=0.0):
    """Calls DPOTrainer's loss with a model that answers with the given log-probabilities."""
    mask = torch.tensor(inputs["mask"])
    # TRL scores token t + 1 at t: one column in front gives our columns back after its shift.
    shifted = torch.cat([torch.zeros(len(mask), 1), mask], dim=1).long()
    policy = torch.tensor(inputs["policy"])
    reference = torch.tensor(inputs["reference"])

    def model(log_probs):
        return lambda **_: types.SimpleNamespace(
            log_probs=log_probs * mask,
            entropy=torch.tensor(inputs["entropy"]),
            mean_logits=torch.zeros_like(log_probs),
            is_top1=torch.zeros_like(log_probs).bool(),
        )

    trainer = object.__new__(DPOTrainer)
    policy_model = model(policy)
    trainer.model = types.SimpleNamespace(training=True)
    trainer.ref_model = model(reference)
    trainer.args = types.SimpleNamespace(gradient_checkpointing_kwargs=None)
    trainer.accelerator = _Alone()
    trainer.beta, trainer.label_smoothing = beta, flip
    trainer.loss_types, trainer.loss_weights = [loss_type], [1.0]
    trainer.f_divergence_type = "reverse_kl"
    trainer.ld_alpha = None
    trainer.aux_loss_enabled = trainer.use_weighting = trainer.precompute_ref_logps = False
    trainer._metrics = {"train": defaultdict(list)}
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    batch = {
        "input_ids": torch.ones_like(shifted),
        "attention_mask": torch.ones_like(shifted),
        "completion_mask": shifted,
    }
    # The stand-in has no layers in which gradient checkpointing could be switched off.
    dpo_trainer.disable_gradient_checkpointing = lambda *_: contextlib.nullcontext()
    loss = trainer._compute_loss(policy_model, batch, return_outputs=False)
    metrics = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    return {"loss": float(loss), "metrics": metrics}


def _means(inputs):
    mask = inputs["mask"]
    mean = (inputs["policy"] * mask).sum(1) / mask.sum(1)
    return torch.tensor(mean[:PAIRS]), torch.tensor(mean[PAIRS:])


def _simpo(inputs, beta, gamma):
    trainer = object.__new__(CPOTrainer)
    trainer.accelerator, trainer.alpha, trainer.label_smoothing = _Alone(), 0.0, 0.0
    trainer.loss_type, trainer.beta, trainer.simpo_gamma = "simpo", beta, gamma
    losses, chosen, rejected = trainer.cpo_loss(*_means(inputs))
    return {
        "loss": float(losses.mean()),
        "metrics": {
            "rewards/chosen": float(chosen.mean()),
            "rewards/rejected": float(rejected.mean()),
            "rewards/accuracies": float((chosen > rejected).float().mean()),
        },
    }


def _orpo(inputs, weight):
    """Calls ORPOTrainer's loss, given the likelihood of the chosen prompts and completions."""
    chosen, rejected = _means(inputs)
    trainer = object.__new__(ORPOTrainer)
    trainer.accelerator, trainer.beta = _Alone(), weight
    trainer.aux_loss_enabled, trainer.is_encoder_decoder = False, False
    valid = torch.tensor(inputs["valid"][:PAIRS])
    nll = -(torch.tensor(inputs["policy"][:PAIRS]) * valid).sum() / valid.sum()
    trainer.concatenated_forward = lambda model, batch: (
        chosen,
        rejected,
        torch.zeros(1),
        torch.zeros(1),
        nll,
    )
    loss, metrics = trainer.get_batch_loss_metrics(None, {})
    return {"loss": float(loss), "metrics": metrics}


def main():
    """Computes every case and writes the file."""
    inputs = _inputs()
    alone = {k: v[[0, PAIRS]] for k, v in inputs.items()}
    cases = {
        "dpo": _dpo(inputs, "sigmoid", 0.1),
        "robust": _dpo(inputs, "robust", 0.3, 0.2),
        "ipo": _dpo(inputs, "ipo", 0.1),
        "hinge": _dpo(inputs, "hinge", 0.5),
        "sigmoid_norm": _dpo(inputs, "sigmoid_norm", 5.0),
        "simpo": _simpo(inputs, 2.0, 1.0),
        "orpo": _orpo(inputs, 0.1),
    }
    # TRL dropped conservative DPO, but its `aot` sorts pairs and then is the same formula: with one
    # pair there is nothing to sort.
    cases["cdpo_of_first_pair"] = _dpo(alone, "aot", 0.3, 0.2)
    context = {"trl": trl.__version__, "torch": torch.__version__}
    figures = {
        "context": context,
        "inputs": {k: [[round(float(x), 5) for x in row] for row in v] for k, v in inputs.items()},
        "cases": cases,
    }
    FILE.write_text(json.dumps(figures, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
