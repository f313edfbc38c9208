"""Low-rank adapters (LoRA) on the seven projections, as pure functions over the parameters.

`adapt` puts an `AdaptedWeight` in the place of each adapted projection, and the forward pass needs
to know nothing else. The low-rank product is added to the projection's output, x W + s (x A) B: the
merged matrix is never formed, and its gradient, a third of the arithmetic of full fine-tuning, is
never computed. The base weights get no gradient because nothing differentiates by them.

    adapters = init_adapters(config, lora, key)
    loss = lambda adapters: f(adapt(params, adapters, lora))    # differentiate this
    reference = f(params)                                       # LoRA switched off
    merged = merge(params, adapters, lora)                      # for export and for generation

Source: Hu et al. 2021 (arXiv 2106.09685), equation 3, with s = alpha / rank.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import RULES, Rules, gather
from leco_jax.models.weights import (
    Params,
    Weight,
    abstract_weights,
    random_weights,
    table_shardings,
    weight_table,
)

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

Adapters = dict[str, dict[str, jax.Array]]

# Logical axes of one layer's A [X, R] and B [R, Y] as they are stored, and, by the letter of an
# `einsum`, as a product uses them.
_AXES_A = ("lora_inputs", "rank")
_AXES_B = ("rank", "lora_outputs")
_USED = {
    "D": "act_embed",
    "N": "act_heads",
    "I": "act_heads",
    "K": "act_kv_heads",
    "H": "head_width",
    "J": "head_width",
    "F": "act_mlp",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which projections are adapted, and how."""

    rank: int = 8  # rank of each adapter (R); 0: no adapters, all weights are trained
    alpha: float = 16.0  # the adapter's output is multiplied by alpha / rank
    dropout: float = 0.0  # share of the adapter's inputs set to zero in training
    targets: tuple[str, ...] = PROJECTIONS  # names of the adapted projections, from `PROJECTIONS`
    layers: tuple[int, ...] | None = None  # indices of the adapted layers; None: all

    def __post_init__(self):
        # Lists come from configuration files; the dataclass is static under jit and must hash.
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted({int(i) for i in self.layers})))
        if self.rank < 0:
            raise ValueError(f"LoRA rank={self.rank} must not be negative")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"LoRA dropout={self.dropout} must lie in [0, 1)")
        unknown = sorted(set(self.targets) - set(PROJECTIONS))
        if unknown or not self.targets:
            raise ValueError(
                f"LoRA targets {unknown or '()'} are not among {', '.join(PROJECTIONS)}"
            )
        if self.layers is not None and not self.layers:
            raise ValueError("LoRA layers=() adapts nothing; None means all layers")

    @property
    def scale(self) -> float:
        """Factor of the low-rank product."""
        return self.alpha / self.rank

    def layer_indices(self, config: ModelConfig) -> tuple[int, ...]:
        """Indices of the adapted layers of a model."""
        if self.layers is None:
            return tuple(range(config.num_layers))
        outside = [i for i in self.layers if not 0 <= i < config.num_layers]
        if outside:
            raise ValueError(f"LoRA layers {outside} lie outside 0..{config.num_layers - 1}")
        return self.layers


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("base", "a", "b", "keys"),
    meta_fields=("scale", "dropout"),
)
@dataclasses.dataclass(frozen=True)
class AdaptedWeight:
    """A projection with its adapter in the array's place, stacked [L, ...] or one layer's."""

    base: jax.Array  # the projection, input dimensions before output dimensions
    a: jax.Array  # [(L,) X, R]; X inputs, those of several dimensions end to end
    b: jax.Array  # [(L,) R, Y]; Y outputs, the same
    keys: jax.Array | None  # typed PRNG key per layer for dropout; None: no dropout
    scale: float  # factor of the low-rank product
    dropout: float  # share of inputs dropped

    def einsum(self, spec: str, x: jax.Array, dtype: Any) -> jax.Array:
        """`einsum(spec, x, base + scale * a b)` in `dtype`, without forming the sum."""
        inputs, weight_dims, outputs = spec.replace("->", ",").split(",")
        contracted = [d for d in weight_dims if d not in outputs]
        made = [d for d in weight_dims if d in outputs]
        rows = [d for d in inputs if d not in contracted]
        y = jnp.einsum(spec, x, self.base.astype(dtype))
        if self.keys is not None and self.dropout > 0:
            keep = jax.random.bernoulli(self.keys, 1 - self.dropout, x.shape)
            x = jnp.where(keep, x / (1 - self.dropout), 0).astype(x.dtype)
        low = "".join([*rows, "R"])
        z = jnp.einsum(f"{inputs},{''.join(contracted)}R->{low}", x, self._a(contracted, dtype))
        delta = jnp.einsum(f"{low},R{''.join(made)}->{outputs}", z, self._b(made, dtype))
        return y + self.scale * delta

    def _a(self, letters: list[str], dtype: Any) -> jax.Array:
        shape = (*self.base.shape[: len(letters)], self.a.shape[-1])
        used = (*(_USED[letter] for letter in letters), "rank")
        return gather(self.a.astype(dtype), _AXES_A, used, shape=shape)

    def _b(self, letters: list[str], dtype: Any) -> jax.Array:
        shape = (self.b.shape[0], *self.base.shape[-len(letters) :])
        used = ("rank", *(_USED[letter] for letter in letters))
        return gather(self.b.astype(dtype), _AXES_B, used, shape=shape)


def adapter_table(config: ModelConfig, lora: LoraConfig) -> dict[str, Weight]:
    """Every adapter matrix by its path ("q_proj/a"), derived from the base weight's line."""
    if not lora.rank:
        raise ValueError("LoRA rank=0 means no adapters: there are none to make")
    layers = len(lora.layer_indices(config))
    table = {}
    for target in lora.targets:
        base = weight_table(config)[f"layers/{target}"]
        outputs, inputs = (
            math.prod(config.sizes[letter] for letter in side) for side in base.stored.split(",")
        )
        # A is drawn and B is zero: at the start the adapted model is the base model.
        draw = jax.nn.initializers.normal(inputs**-0.5)
        for name, dims, shape, axes, init in (
            ("a", "LXR", (inputs, lora.rank), _AXES_A, draw),
            ("b", "LRY", (lora.rank, outputs), _AXES_B, jax.nn.initializers.zeros),
        ):
            table[f"{target}/{name}"] = dataclasses.replace(
                base, dims=dims, shape=(layers, *shape), axes=("layers", *axes), init=init
            )
    return table


def adapter_shardings(
    config: ModelConfig, lora: LoraConfig, mesh: Mesh, rules: Rules = RULES
) -> dict[str, dict[str, NamedSharding]]:
    """The sharding of every adapter matrix: inputs and outputs over all devices, the rank whole."""
    return table_shardings(adapter_table(config, lora), mesh, rules, name="lora ")


def init_adapters(
    config: ModelConfig,
    lora: LoraConfig,
    key: jax.Array,
    mesh: Mesh | None = None,
    rules: Rules = RULES,
    *,
    dtype: str = "float32",
) -> Adapters:
    """Adapters that change nothing yet: A drawn with variance 1 / inputs, B zero.

    A matrix depends on the typed PRNG key and its path, not on the mesh (None: the default device).

    Returns:
      {"q_proj": {"a": [L', D, R], "b": [L', R, N * H]}, ...} with L' adapted layers.
    """
    table = adapter_table(config, lora)
    shardings = None if mesh is None else adapter_shardings(config, lora, mesh, rules)
    make = functools.partial(random_weights, table, dtype=dtype)
    return jax.jit(make, out_shardings=shardings)(key=key)


def abstract_adapters(
    config: ModelConfig,
    lora: LoraConfig,
    mesh: Mesh,
    rules: Rules = RULES,
    *,
    dtype: str = "float32",
) -> dict:
    """Shapes of what `init_adapters` makes, with their shardings: for compiling without weights."""
    shardings = adapter_shardings(config, lora, mesh, rules)
    return abstract_weights(adapter_table(config, lora), dtype, shardings)


def _all_layers(x: jax.Array, lora: LoraConfig, num_layers: int) -> jax.Array:
    # Zero adapters for the layers that have none, so that one scan serves all.
    if lora.layers is None:
        return x
    return jnp.zeros((num_layers, *x.shape[1:]), x.dtype).at[jnp.asarray(lora.layers)].set(x)


def adapt(
    params: Params, adapters: Adapters, lora: LoraConfig, *, dropout_key: jax.Array | None = None
) -> Params:
    """The stacked parameters with adapted projections, for `transformer.forward`.

    `dropout_key` is the typed PRNG key of a train step; None: no dropout (evaluation).

    Raises:
      ValueError: the layers are unstacked, or the adapters are not those of `lora`.
    """
    layers = _checked(params, adapters, lora)
    num_layers = layers["q_proj"].shape[0]
    new = dict(layers)
    for name, pair in adapters.items():
        keys = None
        if dropout_key is not None and lora.dropout > 0:
            key = jax.random.fold_in(dropout_key, zlib.crc32(name.encode()))
            keys = jax.random.split(key, num_layers)
        new[name] = AdaptedWeight(
            base=layers[name],
            a=_all_layers(pair["a"], lora, num_layers),
            b=_all_layers(pair["b"], lora, num_layers),
            keys=keys,
            scale=lora.scale,
            dropout=lora.dropout,
        )
    return {**params, "layers": new}


def merge(params: Params, adapters: Adapters, lora: LoraConfig) -> Params:
    """The parameters with the adapters added in float32, each in its base weight's dtype.

    Raises:
      ValueError: as `adapt`.
    """
    layers = _checked(params, adapters, lora)
    num_layers = layers["q_proj"].shape[0]
    new = dict(layers)
    for name, pair in adapters.items():
        a, b = (_all_layers(pair[k], lora, num_layers).astype(jnp.float32) for k in ("a", "b"))
        base = layers[name]
        delta = jnp.matmul(a, b).reshape(base.shape)  # inputs before outputs, as in the weight
        new[name] = (base.astype(jnp.float32) + lora.scale * delta).astype(base.dtype)
    return {**params, "layers": new}


def _checked(params: Params, adapters: Adapters, lora: LoraConfig) -> dict:
    layers = params["layers"]
    if not isinstance(layers, dict):
        raise ValueError("adapters apply to stacked layers: unstack_layers comes after them")
    if set(adapters) != set(lora.targets):
        raise ValueError(
            f"adapters are on {sorted(adapters)}, the configuration names {sorted(lora.targets)}"
        )
    num_layers = layers["q_proj"].shape[0]
    expected = num_layers if lora.layers is None else len(lora.layers)
    for name, pair in adapters.items():
        for part, axis in (("a", -1), ("b", 1)):
            shape = pair[part].shape
            if shape[0] != expected or shape[axis] != lora.rank:
                raise ValueError(
                    f"adapter {name}/{part} has shape {shape}, not {expected} layers of rank "
                    f"{lora.rank}"
                )
    return layers
