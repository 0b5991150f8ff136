"""Rooms in JAX: a function whose value and gradient pass through the rooms of a run.

f = roomgrad.jax.through("trebuchet", enter="input", leave="output")
jax.jit(jax.grad(lambda x: ((f(x) - 60) ** 2).mean()))(x)
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from roomgrad import dtypes
from roomgrad.errors import NoAnswer, SchemaError
from roomgrad.redis.round_trips import Pass, RoundTrips
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import Array, ModelStatus, Room, System

_Shape: Any = jax.ShapeDtypeStruct  # its call has no types

Named = dict[str, Any]
"""JAX arrays by name; those of a batch have one first axis."""

Shapes = dict[str, tuple[int, ...]]
"""Shapes of arrays by name."""


def through(
    system: System | str,
    enter: Room | str,
    leave: Room | str,
    *,
    learn: bool = True,
    run: str = "",
    redis_url: AnyAddress = "",
    timeout_s: float = 60.0,
    output_shapes: Callable[[Shapes], Shapes] | None = None,
) -> Callable[[Any], Any]:
    """Return a function of an array, DATA, or of a dict of arrays by name; it returns the same.

    It may be used within `jax.jit`, `grad`, `value_and_grad` (one forward pass) and `vmap` (one
    larger batch). A value is asked for in evaluation mode. If a gradient is asked for, too, the
    components learn from it; if not `learn`, they return it in evaluation mode.

    Passes keep their order: they are ordered `io_callback`s, as a pure callback may run twice, and
    would teach twice. A pass without a gradient (`jax.vjp`) is given up when its function is freed;
    within `jax.jit` it stays open until the program ends. Shapes and dtypes of the outputs are
    those of the contract.

    output_shapes: returns the shapes of outputs by name for those of the inputs, if the contract
        has an axis that no input has.

    The arguments are those of `roomgrad.torch.Through`, which raises the same. Within `jax.jit`,
    JAX raises an error of its own that contains ours.
    """
    trips = RoundTrips(system, enter, leave, run=run, redis_url=redis_url, timeout_s=timeout_s)
    status = ModelStatus.TRAIN if learn else ModelStatus.DIFFERENTIATE
    passes = _Passes(trips, status, output_shapes)

    @jax.custom_vjp
    def value(given: Any) -> Any:
        outputs, _ = passes.forward(_named(given), ModelStatus.VALIDATE)
        return outputs["DATA"] if trips.has_one_output else outputs

    def forward(given: Any) -> tuple[Any, Any]:
        outputs, number = passes.forward(_named(given), passes.status)
        passes.end_with(number)
        return outputs["DATA"] if trips.has_one_output else outputs, (number, given)

    def backward(kept: Any, gradients: Any) -> tuple[Any]:
        number, given = kept
        found = passes.backward(number, _named(gradients), _named(given))
        return (found if isinstance(given, dict) else found["DATA"],)

    value.defvjp(forward, backward)

    def call(given: Any) -> Any:
        with passes.own_errors():
            return value(given)

    return call


def _named(given: Any) -> Named:
    return given if isinstance(given, dict) else {"DATA": given}


class _Passes:
    """The passes of one function, and the answers whose gradient is awaited."""

    def __init__(
        self, trips: RoundTrips, status: ModelStatus, shapes: Callable[[Shapes], Shapes] | None
    ) -> None:
        self._trips, self._shapes = trips, shapes
        self.status = status
        self._open: dict[int, Pass] = {}
        self._numbers = itertools.count()
        self._error: Exception | None = None  # of the last pass, which JAX replaces by its own

    @contextlib.contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raise the error of a pass, and not the one that JAX makes of it."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            found, self._error = self._error, None
            if found is None:
                raise
            raise found from error

    def forward(self, given: Named, status: ModelStatus) -> tuple[Named, Any]:
        """Return the outputs, and the number of the pass."""
        arrays = {name: jnp.asarray(each) for name, each in given.items()}
        shapes = self._outputs({name: each.shape for name, each in arrays.items()})

        def ask(inputs: Named) -> tuple[Named, Any]:
            rows = next(iter(inputs.values())).shape[0]
            expected = {n: _Shape((rows, *s[1:]), t) for n, (s, t) in shapes.items()}
            number = _Shape((), jnp.int32)

            def callback(inputs: Named) -> tuple[Named, Any]:
                with self._noted():
                    return self._ask(inputs, status, expected)

            found: tuple[Named, Any] = io_callback(
                callback, (expected, number), inputs, ordered=True
            )
            return found

        return _batched(ask, has_number=True)(arrays)  # type: ignore[no-any-return]

    def backward(self, number: Any, gradients: Named, given: Named) -> Named:
        """Return the gradients of the inputs; integers have none."""

        def send(given: tuple[Any, Named, Named]) -> Named:
            number, upstream, inputs = given
            expected = {n: _Shape(x.shape, x.dtype) for n, x in inputs.items() if _is_float(x)}

            def callback(number: Any, upstream: Named) -> Named:
                with self._noted():
                    return self._send(int(number), upstream, expected)

            found: Named = io_callback(callback, expected, number, upstream, ordered=True)
            return found

        arrays = {name: jnp.asarray(each) for name, each in given.items()}
        floats = {name: each for name, each in gradients.items() if _is_float(each)}
        with self.own_errors():
            found = _batched(send, has_number=False)((number, floats, arrays))
        return {n: found[n] if n in found else _no_gradient(x) for n, x in arrays.items()}

    def end_with(self, number: Any) -> None:
        """Give up a pass when its number is freed, since no backward pass can follow.

        A number within `jax.jit` is no object of Python: there, nothing tells.
        """
        if not isinstance(number, jax.core.Tracer):
            weakref.finalize(number, self._open.pop, int(number), None).atexit = False

    # on the host

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._error = error
            raise

    def _ask(self, inputs: Named, status: ModelStatus, expected: Named) -> tuple[Named, Any]:
        arrays = {n: self._trips.as_input(n, np.asarray(each)) for n, each in inputs.items()}
        one = Pass(self._trips, arrays, status)
        found = _as_expected(one.answer.arrays(), expected)
        number = next(self._numbers) % 2**31
        if one.answer.wants_gradient:
            self._open[number] = one
        return found, np.int32(number)

    def _send(self, number: int, upstream: Named, expected: Named) -> Named:
        one = self._open.pop(number, None)
        if one is None:
            raise NoAnswer("the gradient of this pass was sent before: call the function again")
        own = one.answer.arrays()
        gradients = {
            name: np.asarray(each).astype(own[name].dtype)
            for name, each in upstream.items()
            if self._trips.has_gradient(name, own[name])
        }
        return _as_expected(one.backward(gradients), expected)

    def _outputs(self, given: Shapes) -> dict[str, tuple[Any, Any]]:
        """Return shape and dtype of each output that an answer must have, by the contract."""
        sizes: dict[str, int] = {}
        for name, shape in given.items():
            expected = self._trips.inputs.schema.get(name)
            if isinstance(expected, Array):
                if len(expected.shape) != len(shape):
                    raise SchemaError(f"{name}: expected shape {expected.describe()}, got {shape}")
                both = zip(expected.shape, shape, strict=True)
                sizes |= {axis: size for axis, size in both if isinstance(axis, str)}
        asked = self._shapes(dict(given)) if self._shapes else {}
        return {
            name: (
                asked.get(name) or self._output_shape(name, each, sizes),
                jax.dtypes.canonicalize_dtype(dtypes.from_name(each.dtype)),
            )
            for name, each in self._trips.outputs.schema.items()
            if isinstance(each, Array) and not each.optional
        }

    def _output_shape(self, name: str, array: Array, sizes: Mapping[str, int]) -> tuple[int, ...]:
        unknown = {axis for axis in array.shape if isinstance(axis, str)} - set(sizes)
        if unknown:
            raise SchemaError(
                f"{name} of room {self._trips.leave} has the shape {array.describe()}: no input "
                f"tells {', '.join(sorted(unknown))}, which JAX needs in advance, so give "
                f"output_shapes"
            )
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in array.shape)


def _is_float(array: Any) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


def _no_gradient(array: Any) -> Any:
    return np.zeros(array.shape, jax.dtypes.float0)


def _as_expected(found: Mapping[str, Any], expected: Named) -> Named:
    """Return arrays as JAX was told that they are. Raises SchemaError for other shapes."""
    for name, each in expected.items():
        if name not in found or found[name].shape != each.shape:
            got = found[name].shape if name in found else "nothing"
            raise SchemaError(f"{name}: expected {each.shape} from the rooms, got {got}")
    return {name: np.asarray(found[name]).astype(each.dtype) for name, each in expected.items()}


def _batched(call: Callable[[Any], Any], *, has_number: bool) -> Callable[[Any], Any]:
    """Return `call`, which `vmap` calls once, with one larger batch.

    has_number: whether it returns a number of the pass beside its arrays, which has no batch.
    """
    inner = custom_vmap(call)

    @inner.def_vmap
    def rule(size: int, batched: Any, tree: Any) -> tuple[Any, Any]:
        def join(is_batched: bool, array: Any) -> Any:
            if array.ndim == 0:  # the number of the pass
                return array
            array = array if is_batched else jnp.broadcast_to(array, (size, *array.shape))
            return array.reshape(-1, *array.shape[2:])

        def split(array: Any) -> Any:
            return array.reshape(size, -1, *array.shape[1:])

        [flags] = batched
        found = _batched(call, has_number=has_number)(jax.tree.map(join, flags, tree))
        if not has_number:
            return jax.tree.map(split, found), jax.tree.map(lambda _: True, found)
        arrays, number = found
        return (jax.tree.map(split, arrays), number), (jax.tree.map(lambda _: True, arrays), False)

    return inner
