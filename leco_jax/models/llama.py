"""The model as a Flax NNX module; its maths is in `transformer`.

    model = Llama(config, rngs=nnx.Rngs(0), mesh=mesh)
    logits_BTV = model(tokens_BT)
    graph, state = nnx.split(model)          # state: the arrays that a compiled program takes

Each weight is an `nnx.Param` whose metadata `out_sharding` holds its logical axes, from the weight
table; adapters are `nnx.LoRAParam`s, so `nnx` filters tell the two apart.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from leco_jax.models import lora as low_rank
from leco_jax.models import transformer
from leco_jax.models.attention import causal_attend
from leco_jax.models.config import ModelConfig
from leco_jax.models.lora import LoraConfig, adapter_table
from leco_jax.models.sharding import RULES, Rules
from leco_jax.models.weights import Params, init_params, unstack_layers, weight_table


class Llama(nnx.Module):
    """A LLaMA-family model.

    Attributes:
      config: the model's sizes and settings.
      embed: [V, D]; `final_norm`: [D]; `unembed`: [V, D], absent from a tied model.
      layers: {"q_proj": [L, D, N, H], ...} stacked, or a list of one dict per layer (`unstack`).
      lora: what `adapters` are; None: there are none.
      adapters: {"q_proj": {"a": [L', D, R], "b": [L', R, N * H]}, ...}; see `leco_jax.models.lora`.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        rngs: nnx.Rngs | jax.Array | None = None,
        params: Params | None = None,
        mesh: Mesh | None = None,
        rules: Rules = RULES,
    ):
        """Makes random weights in one compiled program, or holds given ones without a copy.

        Random weights come from NNX streams (`params` is used) or a typed PRNG key, and live on
        `mesh` (None: the default device) by `rules`. Given ones are stacked or a list of layers.

        Raises:
          ValueError: both or neither of `rngs` and `params`.
        """
        if (rngs is None) == (params is None):
            raise ValueError("give either rngs, for random weights, or params")
        if rngs is not None:
            params = init_params(config, _key(rngs), mesh, rules)
        assert params is not None
        self.config = config
        self.lora: LoraConfig | None = None
        self.adapters: dict[str, dict[str, nnx.Variable]] = nnx.data({})
        self._hold(params)

    def _hold(self, params: Params) -> None:
        axes = {path: weight.axes for path, weight in weight_table(self.config).items()}
        for name, value in params.items():
            if name != "layers":
                setattr(self, name, _variable(nnx.Param, value, axes[name]))
        layers = params["layers"]
        stacked = isinstance(layers, dict)
        groups = [
            {
                name: _variable(nnx.Param, x, axes[f"layers/{name}"][0 if stacked else 1 :])
                for name, x in layer.items()
            }
            for layer in ([layers] if stacked else layers)
        ]
        self.layers = nnx.data(groups[0] if stacked else groups)

    @property
    def params(self) -> Params:
        """The weights without adapters, the module's own arrays as a nested dict."""
        names = ("embed", "layers", "final_norm", "unembed")
        return _values({name: getattr(self, name) for name in names if hasattr(self, name)})

    def adapted(self, *, dropout_key: jax.Array | None = None) -> Params:
        """`params` with the adapters in place, if there are any.

        `dropout_key` is a train step's typed PRNG key for the adapters' dropout; None: no dropout.
        """
        # A group is empty where `nnx.pop` took its adapters out.
        adapters = {name: _values(group) for name, group in self.adapters.items() if group}
        if not adapters or self.lora is None:
            return self.params
        return low_rank.adapt(self.params, adapters, self.lora, dropout_key=dropout_key)

    def hidden(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segment_ids_BT: jax.Array | None = None,
        *,
        remat: str = "none",
    ) -> jax.Array:
        """Hidden states after the final norm, [B, T, D] in the compute dtype.

        Args:
          tokens_BT: int32 token ids.
          positions_BT: int32 positions; default: 0, 1, 2, ... in each row.
          segment_ids_BT: int32 document of each token; default: each row is one document.
          remat: what the backward pass recomputes, a key of `transformer.REMAT`.
        """
        if positions_BT is None:
            positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
        hidden_BTD, _ = transformer.forward(
            self.adapted(),
            tokens_BT,
            positions_BT,
            config=self.config,
            attend=causal_attend(positions_BT, self.config, segment_ids_BT=segment_ids_BT),
            remat=remat,
        )
        return hidden_BTD

    @property
    def unembedding(self) -> jax.Array:
        """The matrix [V, D] that turns hidden states into logits; the embedding itself if tied."""
        return transformer.unembedding(self.params)

    def __call__(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segment_ids_BT: jax.Array | None = None,
    ) -> jax.Array:
        """Logits, float32 [B, T, V]; see `hidden`."""
        hidden_BTD = self.hidden(tokens_BT, positions_BT, segment_ids_BT)
        return transformer.logits(self.params, hidden_BTD, config=self.config)

    def add_adapters(
        self,
        lora: LoraConfig,
        *,
        rngs: nnx.Rngs | jax.Array | None = None,
        adapters: low_rank.Adapters | None = None,
        mesh: Mesh | None = None,
        rules: Rules = RULES,
    ) -> None:
        """Adds fresh adapters, which change nothing until they are trained, or given ones.

        `rngs`, `mesh` and `rules` are as for the model; `adapters` are held without a copy.

        Raises:
          ValueError: both or neither of `rngs` and `adapters`, there are adapters already, or the
            layers are unstacked.
        """
        if (rngs is None) == (adapters is None):
            raise ValueError("give either rngs, for fresh adapters, or adapters")
        if self.lora is not None or not isinstance(self.layers, dict):
            raise ValueError("adapters are added once, to stacked layers (load_model's default)")
        if rngs is not None:
            adapters = low_rank.init_adapters(self.config, lora, _key(rngs), mesh, rules)
        assert adapters is not None
        axes = {path: weight.axes for path, weight in adapter_table(self.config, lora).items()}
        self.lora = lora
        self.adapters = nnx.data(
            {
                name: {
                    part: _variable(nnx.LoRAParam, x, axes[f"{name}/{part}"])
                    for part, x in group.items()
                }
                for name, group in adapters.items()
            }
        )

    def merge_adapters(self) -> None:
        """Adds the adapters into the weights, in float32, and drops them; no-op without any."""
        lora = self.lora
        if lora is None:
            return
        merge = jax.jit(
            lambda params, adapters: low_rank.merge(params, adapters, lora),
            out_shardings=jax.tree.map(lambda x: x.sharding, self.params),
        )
        params = merge(self.params, _values(self.adapters))
        self.lora, self.adapters = None, nnx.data({})
        self._hold(params)

    def unstack(self) -> None:
        """Makes `layers` a list of one dict per layer, in place: the form that decoding needs.

        While it runs, no more than one stacked weight is held twice.
        """
        params = self.params
        self.layers = nnx.data({})  # or the stacked weights could not be freed one by one
        self._hold(unstack_layers(params, consume=True))


def _key(rngs: nnx.Rngs | jax.Array) -> jax.Array:
    return rngs.params() if isinstance(rngs, nnx.Rngs) else rngs


def _variable(kind: type[nnx.Variable], value: jax.Array, axes: tuple[str, ...]) -> nnx.Variable:
    # The value lies where it should already; Flax must not place it by names of logical axes.
    return kind(value, out_sharding=axes, eager_sharding=False)


def _values(tree: Any) -> Any:
    """The arrays of a tree of variables."""
    return jax.tree.map(
        lambda x: x.get_value(), tree, is_leaf=lambda x: isinstance(x, nnx.Variable)
    )
