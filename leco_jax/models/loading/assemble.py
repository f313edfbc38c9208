"""From named tensors in files to sharded parameters, reading only what each device needs."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from leco_jax.models.config import ModelConfig
from leco_jax.models.loading.stored_rows import (
    Fix,
    Index,
    StoredRows,
    exchanged,
    stored_rows,
)
from leco_jax.models.sharding import RULES, Rules, named_sharding
from leco_jax.models.weights import Params, Weight, nest, weight_table

# `Fix`: some layers' part of a weight, in the model's own layout -> the same, with values mended.


class CheckpointError(ValueError):
    """The files do not hold the model that their config describes."""


class TensorSource(Protocol):
    """Named tensors that can be read in parts."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor there is."""
        ...

    def read(self, name: str, index: Index) -> np.ndarray:
        """The part of one tensor that lies within contiguous ranges."""
        ...


class SplitSource:
    """A source in which weights that the files hold stacked appear one by one."""

    def __init__(
        self,
        source: TensorSource,
        config: ModelConfig,
        names: Mapping[str, str],
        stacks: Mapping[str, tuple[str, ...]],
    ):
        """Finds the stacked tensors there are.

        `names` is as for `check_tensors`; `stacks` maps the name of a stacked tensor ({} is the
        layer) to the paths of the weights whose rows it holds one after the other.
        """
        self._source = source
        self._parts: dict[str, tuple[str, int]] = {}  # name -> the stacked tensor, its first row
        self.shapes = dict(source.shapes)
        table = weight_table(config)
        for stacked, paths in stacks.items():
            shapes = [stored_shape(table[path], config) for path in paths]
            whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
            for layer in range(config.num_layers):
                name = stacked.format(layer)
                if tuple(source.shapes.get(name, ())) != whole:
                    break  # not stacked, or missing or mis-shaped and reported as it is
                del self.shapes[name]
                start = 0
                for path, shape in zip(paths, shapes, strict=True):
                    self._parts[names[path].format(layer)] = (name, start)
                    self.shapes[names[path].format(layer)] = shape
                    start += shape[0]

    def read(self, name: str, index: Index) -> np.ndarray:
        """The part of one weight that lies within contiguous ranges."""
        if name not in self._parts:
            return self._source.read(name, index)
        first, stop, _ = index[0].indices(self.shapes[name][0])
        stacked, start = self._parts[name]
        return self._source.read(stacked, (slice(start + first, start + stop), *index[1:]))


def check_tensors(
    config: ModelConfig,
    names: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    where: str,
    ignored: Iterable[str] = (),
) -> None:
    """Compares the tensors of a checkpoint with the weight table.

    `names` maps each weight's path to its name in the files ({} is the layer), `shapes` every name
    to its shape; `where` is what messages call the checkpoint; `ignored` tensors do no harm.

    Raises:
      CheckpointError: tensors are missing, extra or mis-shaped; the message lists all of them.
    """
    if config.num_layers > len(shapes):
        raise CheckpointError(
            f"{where}: the config describes {config.num_layers} layers, and the files hold "
            f"{len(shapes)} tensors in all"
        )
    expected = {}
    for path, weight in weight_table(config).items():
        layers: Iterable[int] = range(config.num_layers) if weight.dims[0] == "L" else (0,)
        for layer in layers:
            expected[names[path].format(layer)] = stored_shape(weight, config)
    missing = [name for name in expected if name not in shapes]
    extra = sorted(name for name in shapes if name not in expected and name not in set(ignored))
    misshaped = [
        f"{name}: has {list(shapes[name])}, wants {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    wrong = {"missing": missing, "extra": extra, "mis-shaped": misshaped}
    if any(wrong.values()):
        parts = [
            f"{len(lines)} {kind}:\n" + "\n".join(f"    {line}" for line in lines)
            for kind, lines in wrong.items()
            if lines
        ]
        raise CheckpointError(
            f"{where}: the tensors are not those of the model that its config describes\n  "
            + "\n  ".join(parts)
        )


def assemble(
    config: ModelConfig,
    names: Mapping[str, str],
    source: TensorSource,
    *,
    mesh: Mesh | None = None,
    rules: Rules = RULES,
    fixes: Mapping[str, Fix] | None = None,
) -> Params:
    """Reads all weights, each device's part straight into its place, one weight at a time.

    They are cast to `config.param_dtype`. `names` is as for `check_tensors`. `fixes` maps paths to
    functions on arrays [..., all of the last axis] of NumPy or jax, for formats that store a weight
    changed. On a mesh of several processes every one must call it.

    Raises:
      CheckpointError: a tensor that is not of floating point, or that holds NaN or infinity.
    """
    flat: dict[str, jax.Array] = {}
    for path, weight in weight_table(config).items():
        fix = (fixes or {}).get(path)
        if mesh is None:
            device = jnp.zeros(()).sharding  # the default one
            read = _reader(config, weight, names[path], source, fix)
            flat[path] = jax.make_array_from_callback(weight.shape, device, read)
            continue
        sharding = named_sharding(path, weight.shape, weight.axes, mesh, rules)
        how = stored_rows(weight, config, sharding)
        shape, placed, read = reading(config, weight, names[path], source, sharding, how, fix)
        array = jax.make_array_from_callback(shape, placed, read)
        flat[path] = array if how is None else exchanged(array, how, weight, config, sharding, fix)
    return nest(flat)


class Reading(NamedTuple):
    """An array that is made from files: `read` gives a device's part of it."""

    shape: tuple[int, ...]
    sharding: NamedSharding
    read: Callable[[Index | None], np.ndarray]


def reading(
    config: ModelConfig,
    weight: Weight,
    name: str,
    source: TensorSource,
    sharding: NamedSharding,
    how: StoredRows | None,
    fix: Fix | None,
) -> Reading:
    """What the devices of `sharding` read of a weight: their parts, or rows to be exchanged."""
    if how is None:
        return Reading(weight.shape, sharding, _reader(config, weight, name, source, fix))
    width, dtype = how.columns, jnp.dtype(config.param_dtype)

    def read_rows(layer: int, rows: slice) -> np.ndarray:
        part = _checked(source.read(tensor := name.format(layer), (rows, slice(0, width))), tensor)
        return part.astype(dtype, copy=False)

    @_remembered
    def read(index: Index | None) -> np.ndarray:
        assert index is not None  # jax says None for scalars only
        return how.read(index, read_rows)

    return Reading(how.shape, NamedSharding(sharding.mesh, how.spec), read)


def _remembered(read: Callable[[Index | None], np.ndarray]) -> Callable[..., np.ndarray]:
    """Reads each part once: replicas ask for the same."""
    done: dict[Any, np.ndarray] = {}

    def once(index: Index | None) -> np.ndarray:
        key = None if index is None else tuple((s.start, s.stop) for s in index)
        if key not in done:
            done[key] = read(index)
        return done[key]

    return once


def _reader(
    config: ModelConfig,
    weight: Weight,
    name: str,
    source: TensorSource,
    fix: Fix | None,
) -> Callable[[Index | None], np.ndarray]:
    """The function that makes one device's part of a weight."""

    @_remembered
    def read(index: Index | None) -> np.ndarray:
        assert index is not None  # jax says None for scalars only
        bounds = [s.indices(size)[:2] for s, size in zip(index, weight.shape, strict=True)]
        out = np.empty([stop - start for start, stop in bounds], jnp.dtype(config.param_dtype))
        if weight.dims[0] == "L":
            for i, layer in enumerate(range(*bounds[0])):
                part = _read_layer(config, weight, name.format(layer), source, bounds[1:], fix)
                out[i] = part.astype(out.dtype, copy=False)
        else:
            out[...] = _read_layer(config, weight, name, source, bounds, fix).astype(out.dtype)
        return out

    return read


def _read_layer(
    config: ModelConfig,
    weight: Weight,
    name: str,
    source: TensorSource,
    bounds: list[tuple[int, int]],
    fix: Fix | None,
) -> np.ndarray:
    """One layer's part of a weight in the model's layout; `bounds` excludes the layers."""
    dims = weight.dims.removeprefix("L")
    size = config.sizes
    wanted = dict(zip(dims, bounds, strict=True))
    # Only the leading letter of a group such as NH can be cut before reading; the rest comes whole
    # and is cut at the end.
    stored_index, read_shape = [], []
    for group in weight.stored.split(","):
        stride = math.prod(size[d] for d in group[1:])
        start, stop = wanted[group[0]]
        stored_index.append(slice(start * stride, stop * stride))
        read_shape += [stop - start, *(size[d] for d in group[1:])]
    part = _checked(source.read(name, tuple(stored_index)), name).reshape(read_shape)
    letters = weight.stored.replace(",", "")
    part = part.transpose([letters.index(d) for d in dims])
    if fix is not None:
        part = fix(part)
    leading = {group[0] for group in weight.stored.split(",")}
    return part[tuple(slice(None) if d in leading else slice(*wanted[d]) for d in dims)]


def _checked(part: np.ndarray, name: str) -> np.ndarray:
    if not jnp.issubdtype(part.dtype, jnp.floating):
        raise CheckpointError(
            f"tensor {name} is stored as {part.dtype}: weights must be of floating point"
        )
    if not np.isfinite(part).all():
        raise CheckpointError(f"tensor {name} holds NaN or infinity: the file is damaged")
    return part


def stored_shape(weight: Weight, config: ModelConfig) -> tuple[int, ...]:
    """The shape of one layer's tensor in a file."""
    return tuple(math.prod(config.sizes[d] for d in group) for group in weight.stored.split(","))
