"""A thin Flax NNX holder of the parameters; the maths is in `transformer`."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from leco_jax.models import transformer
from leco_jax.models.attention import causal_attend
from leco_jax.models.config import ModelConfig
from leco_jax.models.weights import init_params


class Llama(nnx.Module):
    """A LLaMA-family model: `config`, and every weight as an `nnx.Param`."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        rngs: nnx.Rngs | jax.Array | None = None,
        params: dict | None = None,
        mesh: Mesh | None = None,
    ):
        """Holds given weights or makes random ones.

        Args:
          config: the model.
          rngs: for random weights: NNX streams (`params` is used) or a typed PRNG key.
          params: given weights, kept without a copy.
          mesh: where random weights live; None: the default device.

        Raises:
          ValueError: both or neither of `rngs` and `params`.
        """
        if (rngs is None) == (params is None):
            raise ValueError("give either rngs, for random weights, or params")
        if rngs is not None:
            key = rngs.params() if isinstance(rngs, nnx.Rngs) else rngs
            params = init_params(config, key, mesh)
        self.config = config
        self.weights = nnx.data(jax.tree.map(nnx.Param, params))

    @classmethod
    def from_params(cls, config: ModelConfig, params: dict) -> "Llama":
        """A model that holds these parameters; nothing is copied."""
        return cls(config, params=params)

    def params(self) -> dict:
        """The parameters as the plain nested dict that every pure function takes."""
        return jax.tree.map(
            lambda param: param[...], self.weights, is_leaf=lambda x: isinstance(x, nnx.Param)
        )

    def __call__(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segment_ids_BT: jax.Array | None = None,
    ) -> jax.Array:
        """Logits, float32 [B, T, V].

        Args:
          tokens_BT: int32 token ids.
          positions_BT: int32 positions; default: 0, 1, 2, ... in each row.
          segment_ids_BT: int32 document of each token; default: each row is one document.
        """
        if positions_BT is None:
            positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
        params = self.params()
        hidden_BTD, _ = transformer.forward(
            params,
            tokens_BT,
            positions_BT,
            config=self.config,
            attend=causal_attend(positions_BT, self.config, segment_ids_BT=segment_ids_BT),
        )
        return transformer.logits(params, hidden_BTD, config=self.config)
