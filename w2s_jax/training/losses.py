"""Supervised and preference losses, by hand, as functions of log-probabilities and masks.

Every preference loss returns one value per pair; the caller averages. Names, all float32:

* `chosen_B`, `rejected_B`: the completion's log-probability under the policy, a sum over tokens;
* `chosen_ratio_B`, `rejected_ratio_B`: that minus the same sum under the reference;
* `chosen_mean_B`, `rejected_mean_B`: the policy's sum divided by the completion's tokens;
* `chosen_length_B`, `rejected_length_B`: the completion's tokens.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import log_sigmoid

# --- sums over tokens -------------------------------------------------------------------------


def sequence_sum(logprob_BT: Array, mask_BT: Array) -> Array:
    """Sums log-probabilities over the tokens of the mask; [..., T] to [...].

    A masked token may hold anything, NaN included: it takes no part, nor does its gradient.
    """
    return jnp.sum(jnp.where(mask_BT > 0, logprob_BT * mask_BT, 0.0), axis=-1)


def sequence_mean(logprob_BT: Array, mask_BT: Array) -> Array:
    """Averages log-probabilities over the tokens of the mask; 0 for a row without tokens."""
    return _mean(sequence_sum(logprob_BT, mask_BT), jnp.sum(mask_BT, axis=-1))


# --- supervised -------------------------------------------------------------------------------


def sft_token_mean(logprob_BT: Array, mask_BT: Array, *, tokens: Array | None = None) -> Array:
    """Computes the mean negative log-likelihood over all tokens of the batch; a scalar.

    `−Σ_bt m·log p / Σ_bt m`: long completions weigh more. As in `transformers` and TRL. For a part
    of a batch `tokens` is what to divide by; None: the mask's own.
    """
    if tokens is None:
        tokens = jnp.maximum(jnp.sum(mask_BT), 1.0)
    return -jnp.sum(sequence_sum(logprob_BT, mask_BT)) / tokens


def sft_sequence_mean(logprob_BT: Array, mask_BT: Array, *, rows: Array | None = None) -> Array:
    """Computes the mean over rows of each row's mean negative log-likelihood; a scalar.

    `−mean_b(Σ_t m·log p / Σ_t m)`: rows weigh the same; those without tokens are left out. For a
    part of a batch `rows` is what to divide by; None: the rows with a token.
    """
    if rows is None:
        rows = jnp.maximum(jnp.sum(jnp.any(mask_BT > 0, axis=-1)), 1)
    return -jnp.sum(sequence_mean(logprob_BT, mask_BT)) / rows


# --- preferences with a reference -------------------------------------------------------------


def dpo(chosen_ratio_B: Array, rejected_ratio_B: Array, *, beta: float = 0.1) -> Array:
    """Computes direct preference optimisation's loss per pair.

    `−log σ(β·D)`, `D = chosen_ratio − rejected_ratio`. It is log 2 where policy equals reference.
    Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7; TRL's `sigmoid`.
    """
    return -log_sigmoid(beta * (chosen_ratio_B - rejected_ratio_B))


def cdpo(
    chosen_ratio_B: Array, rejected_ratio_B: Array, *, beta: float = 0.1, flip: float = 0.1
) -> Array:
    """Computes conservative DPO: cross-entropy with labels wrong with probability `flip`.

    `−(1−ε)·log σ(β·D) − ε·log σ(−β·D)`, 0 <= ε < 0.5. Its minimum lies at a finite margin.
    Source: Mitchell 2023, "A note on DPO with noisy preferences", eq. 3.
    """
    check_flip(flip)
    margin_B = beta * (chosen_ratio_B - rejected_ratio_B)
    return -(1 - flip) * log_sigmoid(margin_B) - flip * log_sigmoid(-margin_B)


def robust(
    chosen_ratio_B: Array, rejected_ratio_B: Array, *, beta: float = 0.1, flip: float = 0.1
) -> Array:
    """Computes robust DPO: unbiased for the clean loss when labels flip with probability `flip`.

    `(−(1−ε)·log σ(β·D) + ε·log σ(−β·D)) / (1 − 2ε)`, 0 <= ε < 0.5.
    Source: Chowdhury et al. 2024, arXiv 2403.00409; TRL's `robust`.
    """
    check_flip(flip)
    margin_B = beta * (chosen_ratio_B - rejected_ratio_B)
    clean_B, flipped_B = -log_sigmoid(margin_B), -log_sigmoid(-margin_B)
    return ((1 - flip) * clean_B - flip * flipped_B) / (1 - 2 * flip)


def ipo(
    chosen_ratio_B: Array,
    rejected_ratio_B: Array,
    chosen_length_B: Array,
    rejected_length_B: Array,
    *,
    beta: float = 0.1,
) -> Array:
    """Computes identity preference optimisation's squared distance from a fixed margin.

    `(D̄ − 1/(2β))²`, `D̄ = chosen_ratio/|c| − rejected_ratio/|r|`: per token, as in current TRL.
    Source: Azar et al. 2023, arXiv 2310.12036, eq. 17 (β is its τ); TRL's `ipo`.
    """
    margin_B = _mean(chosen_ratio_B, chosen_length_B) - _mean(rejected_ratio_B, rejected_length_B)
    return jnp.square(margin_B - 1 / (2 * beta))


def hinge(chosen_ratio_B: Array, rejected_ratio_B: Array, *, beta: float = 0.1) -> Array:
    """Computes the hinge loss on the implicit reward's margin, `max(0, 1 − β·D)`.

    Source: SLiC-HF, Zhao et al. 2023, arXiv 2305.10425, with DPO's reward; TRL's `hinge`.
    """
    return jax.nn.relu(1 - beta * (chosen_ratio_B - rejected_ratio_B))


def sigmoid_norm(
    chosen_ratio_B: Array,
    rejected_ratio_B: Array,
    chosen_length_B: Array,
    rejected_length_B: Array,
    *,
    beta: float = 5.0,
) -> Array:
    """Computes length-normalised DPO; wants a larger `beta` (5 or more) than DPO.

    `−log σ(β·(chosen_ratio/|c| − rejected_ratio/|r|))`.
    Source: Tülu 3, Lambert et al. 2024, arXiv 2411.15124; TRL's `sigmoid_norm`.
    """
    margin_B = _mean(chosen_ratio_B, chosen_length_B) - _mean(rejected_ratio_B, rejected_length_B)
    return -log_sigmoid(beta * margin_B)


# --- preferences without a reference ----------------------------------------------------------


def simpo(
    chosen_mean_B: Array, rejected_mean_B: Array, *, beta: float = 2.0, gamma: float = 1.0
) -> Array:
    """Computes simple preference optimisation: mean log-probabilities and a target margin.

    `−log σ(β·(chosen_mean − rejected_mean) − γ)`.
    Source: Meng et al. 2024, arXiv 2405.14734, eq. 6; TRL's CPO with `simpo`.
    """
    return -log_sigmoid(beta * (chosen_mean_B - rejected_mean_B) - gamma)


def log_odds_ratio(chosen_mean_B: Array, rejected_mean_B: Array) -> Array:
    """Computes the log of the ratio of odds, `log odds(c) − log odds(r)`, `odds(p) = p/(1−p)`.

    `p = exp(mean log-probability)` of a completion.
    """
    return (chosen_mean_B - rejected_mean_B) - (log1mexp(chosen_mean_B) - log1mexp(rejected_mean_B))


def orpo(nll_B: Array, chosen_mean_B: Array, rejected_mean_B: Array, *, beta: float = 0.1) -> Array:
    """Computes odds-ratio preference optimisation: likelihood of the chosen, plus odds.

    `nll − β·log σ(log odds ratio)`. `nll_B` is the chosen row's mean negative log-likelihood, over
    the completion only (LLaMA-Factory) or over prompt and completion (the paper's code and TRL).
    Source: Hong et al. 2024, arXiv 2403.07691, eqs. 6 and 7 (`beta` is its λ).
    """
    return nll_B - beta * log_sigmoid(log_odds_ratio(chosen_mean_B, rejected_mean_B))


def log1mexp(x: Array) -> Array:
    """Computes `log(1 − exp(x))` for x <= 0 without cancellation, and stays finite at x = 0.

    Source: Mächler 2012, "Accurately computing log(1 − exp(−|a|))": expm1 near 0, else log1p.
    """
    # At x = 0 the odds are infinite: held at float32's last step before it.
    x = jnp.minimum(x, -jnp.finfo(jnp.float32).eps)
    near = x > -0.6931472  # log 2, where the two forms are equally good
    near_value = jnp.log(-jnp.expm1(jnp.where(near, x, -0.5)))
    far_value = jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x)))
    return jnp.where(near, near_value, far_value)


# --- what to watch ----------------------------------------------------------------------------


def reward_metrics(chosen_reward_B: Array, rejected_reward_B: Array) -> dict[str, Array]:
    """Gives, per pair and under TRL's names, the rewards, their margin, and whether chosen won."""
    return {
        "rewards/chosen": chosen_reward_B,
        "rewards/rejected": rejected_reward_B,
        "rewards/margins": chosen_reward_B - rejected_reward_B,
        "rewards/accuracies": (chosen_reward_B > rejected_reward_B).astype(jnp.float32),
    }


def _mean(total_B: Array, length_B: Array) -> Array:
    return total_B / jnp.maximum(length_B, 1.0)


def check_flip(flip: float) -> None:
    """Raises ValueError for a share of wrong labels at which no label says anything."""
    if not 0 <= flip < 0.5:
        raise ValueError(f"flip is the share of wrong labels and must lie in [0, 0.5), not {flip}")
