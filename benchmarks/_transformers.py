"""SmolLM2 in `transformers`, with our loader's weights, for paired runs."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from leco_jax.models.loading import LoadedModel
from leco_jax.models.loading.export import export_huggingface


class TorchModel:
    """A `transformers` model that generates greedily."""

    def __init__(self, model: Any, torch: Any, tokenizer: Any):
        self._model = model
        model.generation_config.eos_token_id = None  # by default no token stops a row
        self._torch = torch
        self.tokenizer = tokenizer

    def generate(self, tokens: np.ndarray, count: int, *, keep_logits: bool = False) -> np.ndarray:
        """Exactly `count` new tokens for each row of `[B, T]`, all rows of one length."""
        ids = self._torch.from_numpy(tokens.astype(np.int64))
        with self._torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=count,
                pad_token_id=0,
                output_logits=keep_logits,
                return_dict_in_generate=keep_logits,
            )
        return (out.sequences if keep_logits else out)[:, tokens.shape[1] :].numpy()

    def generate_one(self, tokens: list[int], most: int, *, forbid: list[int]) -> list[int]:
        """Greedy tokens after one row, until the stop token; none of `forbid` comes first."""
        ids = self._torch.tensor([tokens])
        with self._torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=most,
                eos_token_id=list(self.tokenizer.eos_ids),
                pad_token_id=0,
                begin_suppress_tokens=forbid or None,
            )
        return out[0, len(tokens) :].tolist()

    def logprobs(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        """Log-probabilities of the tokens after a prompt, by a pass over the whole text."""
        with self._torch.inference_mode():
            logits = self._model(self._torch.tensor([prompt + tokens])).logits[0]
            logprob = self._torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
            index = self._torch.tensor(tokens)[:, None]
            return logprob.gather(-1, index)[:, 0].numpy()


def torch_smollm2(model: LoadedModel) -> TorchModel | None:
    """The same model in torch, or None where torch or transformers is not installed."""
    try:
        import torch
        import transformers
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as directory:
        export_huggingface(directory, model.model, tokenizer=model.tokenizer)
        peer = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return TorchModel(peer.eval(), torch, model.tokenizer)
