"""The statistics and step scores in float64 NumPy, written from their definitions."""

import numpy as np

STATS = (
    "logprob",
    "entropy",
    "self_certainty",
    "max_logprob",
    "topk_logprob",
    "topk_logmass",
    "logsumexp",
)


def token_stats(
    logits, tokens, *, soft_cap=None, temperature=1.0, valid_vocab=None, topk=20, mask=None
):
    """Fields `[..., T]`; `tokens` and its log-probabilities may be `[..., T, K]`."""
    x = np.asarray(logits, np.float64)[..., :valid_vocab]
    if soft_cap is not None:
        x = np.where(np.isneginf(x), x, soft_cap * np.tanh(x / soft_cap))
    x = x / np.asarray(temperature)[..., None]
    ids = np.asarray(tokens)
    ids = ids if ids.ndim == x.ndim else ids[..., None]
    with np.errstate(all="ignore"):
        peak = x.max(-1, keepdims=True)
        total = peak + np.log(np.exp(x - peak).sum(-1, keepdims=True))
        logp = x - total
        p = np.exp(logp)
        top = -np.sort(-logp, axis=-1)[..., :topk]
        found = {
            "logprob": np.take_along_axis(logp, np.clip(ids, 0, x.shape[-1] - 1), -1),
            "entropy": -np.where(p > 0, p * logp, 0.0).sum(-1),
            "self_certainty": -logp.mean(-1) - np.log(x.shape[-1]),
            "max_logprob": logp.max(-1),
            "topk_logprob": top.mean(-1),
            "topk_logmass": np.log(np.exp(top).sum(-1)),
            "logsumexp": total[..., 0],
        }
    of_nothing = {"entropy": 0.0, "self_certainty": 0.0}
    seen = True if mask is None else np.asarray(mask)
    for name, value in found.items():
        dead, shown = np.isneginf(peak[..., 0]), seen
        if name == "logprob":
            dead, shown = dead[..., None], np.expand_dims(seen, -1)
        value = np.where(dead, of_nothing.get(name, -np.inf), value)
        if name == "logprob":
            value = np.where(ids < 0, 0.0, np.where(ids >= x.shape[-1], -np.inf, value))
        found[name] = np.where(shown, value, 0)
    found["logprob"] = found["logprob"].reshape(np.shape(tokens))
    return found


def divergence(
    logits,
    teacher,
    *,
    direction,
    soft_cap=None,
    temperature=1.0,
    teacher_temperature=None,
    valid_vocab=None,
    xp=np,
):
    """The definition, on whole arrays, in the precision of the logits; `xp` is what computes it."""

    def log_softmax(x, temperature):
        x = x[..., :valid_vocab] / temperature
        x = x - x.max(-1, keepdims=True)
        return x - xp.log(xp.exp(x).sum(-1, keepdims=True))

    capped = logits if soft_cap is None else soft_cap * xp.tanh(logits / soft_cap)
    u = log_softmax(capped, temperature)
    t = log_softmax(teacher, teacher_temperature or temperature)
    if direction == "forward":
        return (xp.exp(t) * (t - u)).sum(-1)
    if direction == "reverse":
        return (xp.exp(u) * (u - t)).sum(-1)
    with np.errstate(invalid="ignore"):
        middle = xp.logaddexp(u, t) - np.log(2.0)
    return 0.5 * ((xp.exp(u) * (u - middle)).sum(-1) + (xp.exp(t) * (t - middle)).sum(-1))


def step_scores(logprob, step_ids, *, num_steps, tau=0.3, heading_tokens=3, heading=None):
    """For one row `[T]`: a list of (average, divergence, transition, score, length)."""
    steps = []
    for step in range(num_steps):
        mine = np.flatnonzero(np.asarray(step_ids) == step)
        if not len(mine):
            steps.append((0.0, 0.0, 0.0, np.inf, 0))
            continue
        p = np.exp(np.asarray(logprob, np.float64)[mine])
        first = mine[:heading_tokens] if heading is None else mine[np.asarray(heading)[mine]]
        average = p.mean()
        transition = (
            np.exp(np.asarray(logprob, np.float64)[first]).mean() if len(first) else average
        )
        share = p / p.sum() if p.sum() > 0 else np.full(len(p), 1 / len(p))
        kl = sum(q * np.log(q * len(p)) for q in share if q > 0)
        divergence = np.log(max(kl, 0.0) ** tau + 1.0)
        steps.append((average, divergence, transition, average + transition - divergence, len(p)))
    return steps
