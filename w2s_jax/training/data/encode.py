"""Texts to tokens: prompt and completion apart, joined, and cut to a length.

The rules, here and nowhere else:

* Prompt and completion are tokenised apart and joined, the completion as a text that goes on
  (sentencepiece puts no space in front), so that it has the same tokens in training as when it is
  scored or generated after the prompt.
* BOS goes in front if the tokenizer's own settings say so (`wants_bos`), and not otherwise; with a
  chat template, the template writes it.
* The tokenizer's first EOS ends every completion, whatever the pad token is: masks follow from
  lengths, never from ids.
* Too long: the prompt loses its oldest tokens (not BOS), down to a quarter of the length; then the
  completion loses its end, and with it EOS. So something of the completion is always left. Both
  sides of a pair keep the same prompt.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from leco_jax.text.chat import encode_chat
from leco_jax.text.tokenizer import Tokenizer
from w2s_jax.training.data.rows import Example, Pair, refuse


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Token sequences, end to end in one array."""

    tokens: np.ndarray  # int32, all sequences
    ends: np.ndarray  # int64 [n], where each sequence ends in `tokens`
    prompts: np.ndarray  # int32 [n], how many tokens of each are prompt
    pad_id: int  # fills unused slots
    cut_prompts: int  # how many prompts lost their oldest tokens to the length
    cut_completions: int  # how many completions lost their end, EOS with it

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence."""
        return np.diff(self.ends, prepend=0)

    @property
    def most_targets(self) -> int:
        """Tokens of the longest completion."""
        return int((self.lengths - self.prompts).max())

    def sequence(self, i: int) -> np.ndarray:
        """Tokens of sequence i, prompt and completion."""
        return self.tokens[self.ends[i - 1] if i else 0 : self.ends[i]]

    def fingerprint(self) -> str:
        """A hash of all tokens and of where each completion begins."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.tokens, self.ends, self.prompts):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(str(self.pad_id).encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedPairs:
    """Chosen and rejected sequences; entry i of both belongs to pair i, with the same prompt."""

    chosen: Encoded
    rejected: Encoded

    def __len__(self) -> int:
        return len(self.chosen)

    def fingerprint(self) -> str:
        """A hash of both sides."""
        return f"{self.chosen.fingerprint()}-{self.rejected.fingerprint()}"


def encode_examples(
    examples: Sequence[Example], tokenizer: Tokenizer, *, length: int, chat: bool = False
) -> Encoded:
    """Tokenises examples.

    Args:
      examples: see `rows.examples`.
      tokenizer: the model's.
      length: most positions of a sequence (T); its tokens are one more, since the last is only
        a target.
      chat: the prompt is the user's turn of the tokenizer's chat template.

    Raises:
      DataError: prompts without a token that a completion could follow, all listed.
      ValueError: the tokenizer has no EOS, or `length` is below 2.
    """
    joined = _join(
        [(e.where, e.prompt, (e.completion,)) for e in examples], tokenizer, length, chat
    )
    return _stack(joined, 0, tokenizer, length)


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: Tokenizer, *, length: int, chat: bool = False
) -> EncodedPairs:
    """Tokenises pairs; arguments and errors as `encode_examples`."""
    joined = _join(
        [(p.where, p.prompt, (p.chosen, p.rejected)) for p in pairs], tokenizer, length, chat
    )
    return EncodedPairs(*(_stack(joined, side, tokenizer, length) for side in (0, 1)))


class _Joined(NamedTuple):
    prompt: list[int]
    completions: list[list[int]]
    prompt_cut: bool


def _join(
    texts: list[tuple[str, str, tuple[str, ...]]], tokenizer: Tokenizer, length: int, chat: bool
) -> list[_Joined]:
    """Tokens of each prompt, cut for the longest of its completions, and of the completions."""
    if length < 2:
        raise ValueError(f"length={length} leaves no room for a prompt and a completion")
    if not tokenizer.eos_ids:
        raise ValueError("this tokenizer has no EOS, so a trained model could never stop")
    joined, bad = [], []
    for where, text, completions in texts:
        if chat:
            prompt = encode_chat(tokenizer, [{"role": "user", "content": text}])
        else:
            prompt = tokenizer.encode(text, add_bos=tokenizer.wants_bos)
        if not prompt:
            bad.append(
                f"{where}: the prompt is empty and this tokenizer puts no BOS in front, so nothing "
                "comes before the completion's first token"
            )
            continue
        ids = [[*tokenizer.encode(c, continuation=True), tokenizer.eos_ids[0]] for c in completions]
        kept = _cut_prompt(prompt, max(map(len, ids)), tokenizer, length)
        joined.append(_Joined(kept, ids, len(kept) < len(prompt)))
    refuse(bad)
    return joined


def _cut_prompt(prompt: list[int], longest: int, tokenizer: Tokenizer, length: int) -> list[int]:
    least = min(len(prompt), max(1, length // 4))
    keep = max(least, min(len(prompt), length + 1 - longest))
    if keep == len(prompt):
        return prompt
    bos = prompt[:1] if prompt[0] == tokenizer.bos_id and keep > 1 else []
    return bos + prompt[len(prompt) - keep + len(bos) :]


def _stack(joined: list[_Joined], side: int, tokenizer: Tokenizer, length: int) -> Encoded:
    prompts = [one.prompt for one in joined]
    completions = [one.completions[side] for one in joined]
    kept = [c[: length + 1 - len(p)] for p, c in zip(prompts, completions, strict=True)]
    lengths = [len(p) + len(c) for p, c in zip(prompts, kept, strict=True)]
    tokens = np.fromiter(
        (t for p, c in zip(prompts, kept, strict=True) for part in (p, c) for t in part),
        np.int32,
        sum(lengths),
    )
    return Encoded(
        tokens=tokens,
        ends=np.cumsum(lengths, dtype=np.int64),
        prompts=np.array([len(p) for p in prompts], np.int32),
        pad_id=tokenizer.pad_id,
        cut_prompts=sum(one.prompt_cut for one in joined),
        cut_completions=sum(len(k) < len(c) for k, c in zip(kept, completions, strict=True)),
    )
