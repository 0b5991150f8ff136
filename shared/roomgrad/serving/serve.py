"""`roomgrad.serve`: a component of one object."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, Unpack

import redis
from numpy.typing import ArrayLike, NDArray

from roomgrad.errors import CheckFailed, SettingsError, format_value
from roomgrad.flags import load
from roomgrad.local.session import running_server
from roomgrad.names import PLAIN, Names
from roomgrad.redis import registry, users
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import connect
from roomgrad.redis.server_address import AnyAddress
from roomgrad.rooms import Room
from roomgrad.runtime import process, runs
from roomgrad.serving.black_box import BlackBox, Estimate
from roomgrad.serving.components import Place, component_of_function, component_of_network
from roomgrad.serving.contracts import Passage
from roomgrad.serving.differences import scale_of
from roomgrad.serving.functions import Array, Function, NumpyFunction, takes_seed
from roomgrad.serving.kinds import function_of
from roomgrad.serving.networks import OPTIMIZER, maker_of, model_maker
from roomgrad.serving.quality import Noise, measure
from roomgrad.settings import RuntimeSettings

if TYPE_CHECKING:
    from roomgrad.component import Component

RUN = "served"
Say = Callable[[str], object]


class Options(TypedDict, total=False):
    """The options of `roomgrad.serve`; all may be left out.

    run: name of the run; RUN, or else `served`.
    name: that of the component; the object's name.
    like: rows like those that will come, if no component of the run has declared what `enter`
        carries. Lists are float32.
    gradient: how a black box is differentiated: `central`, `forward`, `spsa` or `spsa:DIRECTIONS`.
        A numpy function without `vjp` is one: `central`.
    vjp: that of a numpy function, called as `vjp(x, upstream)`; its attribute `vjp`.
    optimizer: that of a network: NAME:RATE, or as `TorchModel` takes it; `adam:1e-3`.
    check: whether to compare the gradient with differences, and say how good it is; True.
    redis_url: address of a server; `REDIS_URL`, or else an embedded server.
    """

    run: str
    name: str
    like: ArrayLike
    gradient: str
    vjp: Callable[..., Any]
    optimizer: str | Callable[[Any], Any]
    check: bool
    redis_url: AnyAddress


@dataclass(frozen=True)
class Offer:
    """What is served, and where."""

    target: Any
    enter: str
    leave: str
    options: Options

    @property
    def name(self) -> str:
        """The name of the component."""
        own = getattr(self.target, "__name__", type(self.target).__name__)
        return self.options.get("name") or str(own)

    @property
    def gradient(self) -> str:
        """How it is estimated; empty if it is not."""
        return self.options.get("gradient", "")

    @property
    def vjp(self) -> Callable[..., Any] | None:
        """The vjp that came with a function; None if it is to be found or estimated."""
        own = None if self.gradient else getattr(self.target, "vjp", None)
        return self.options.get("vjp") or own

    def component(self, client: redis.Redis, names: Names) -> Component:
        """Return the component of this offer in a run, and say what it is. Raises as `serve`."""
        return component_of(client, names, self, to_stderr)


def serve(target: Any, *, enter: str, leave: str, **options: Unpack[Options]) -> NoReturn:
    """Serve an object as a component between two rooms until SIGTERM or SIGINT; end the process.

    target: an nn.Module, or its class, or a function that makes one: it learns. Or a function of
        rows `(batch, ...)` of torch tensors or numpy arrays, which is differentiated. If it takes
        `seed`, it gets a number from which to draw.
    enter: the room of its inputs, and of their gradients.
    leave: the room of its outputs, and of their gradients.
    options: see `Options`.

    Raises SettingsError or ContractError for an object that cannot be served there, and NoServer.
    """
    offer = Offer(target, enter, leave, options)
    settings = load_settings(options.get("run", ""))
    with prepared(offer.component, settings, options.get("redis_url", "")) as (component, url):
        process.run(component, settings, url)


def load_settings(run: str = "", flags: Sequence[str] = ()) -> RuntimeSettings:
    """Return the settings of what is served. Raises SettingsError."""
    settings = load(RuntimeSettings, [*([f"--run={run}"] if run else []), *flags])
    return replace(settings, run=settings.run or RUN)


@contextmanager
def prepared(
    make: Callable[[redis.Redis, Names], Component],
    settings: RuntimeSettings,
    redis_url: AnyAddress = "",
) -> Iterator[tuple[Component, AnyAddress]]:
    """Yield the component that joins a run, and the address of its server, which runs meanwhile."""
    with running_server(redis_url or settings.redis_url) as (url, embedded):
        with connect(for_run(url, settings.run), settings.redis_password_file) as client:
            component = make(client, Names(settings.run))
        yield component, embedded.local_url if embedded else url


def component_of(client: redis.Redis, names: Names, offer: Offer, say: Say = print) -> Component:
    """Return the component of an offer in a run; say what it is, and how good its gradient is.

    Raises SettingsError or ContractError for an object that cannot be served there.
    """
    passage = passage_of(client, names, offer.name, offer.enter, offer.leave)
    inputs, rows = passage.inputs(offer.options.get("like"))
    served = _Served.of(offer, rows)
    outputs = passage.outputs(offer.name, served.outputs, rows)
    own = passage.joined(offer.name, names.run, inputs, outputs)
    system = registry.merge([each for each in (passage.system, own) if each])
    place = Place(offer.name, passage.enter, passage.leave, inputs, outputs, system)
    say(
        f"{offer.name}: {served.function.kind}, {inputs.describe()} in room {offer.enter} to "
        f"{outputs.describe()} in room {offer.leave} of run {names.run}"
    )
    if served.make_model is not None:
        component = component_of_network(place, served.make_model)
    else:
        component = component_of_function(place, served.function)
    check_joining(client, names, component, say)
    if offer.options.get("check", True):
        _check(offer, served, rows, say)
    return component


def check_joining(client: redis.Redis, names: Names, component: Component, say: Say) -> None:
    """Say which users may not reach a component. Raises ContractError if it does not fit a run."""
    runs.check_gradients(client, names, component)
    if unreachable := users.unreachable(client, names, [*component.system.components]):
        say(f"warning: the users {unreachable}: {users.hint(names.run)}, once this one has started")


@dataclass(frozen=True)
class _Served:
    """An object that was called once."""

    function: Function
    outputs: Array
    make_model: Callable[[], Any] | None = None

    @classmethod
    def of(cls, offer: Offer, rows: NDArray[Any]) -> _Served:
        """Return what an offer is. Raises SettingsError if it cannot be served."""
        name, target = offer.name, offer.target
        if not callable(target):
            raise SettingsError(
                f"{name} is {format_value(target)}, a {type(target).__name__}: expected an "
                f"nn.Module, a function that makes one, or a function of rows (batch, ...)"
            )
        make = maker_of(name, target)
        if make is None:
            return cls(*_function(offer, rows))
        if offer.gradient or offer.options.get("vjp"):
            raise SettingsError(f"{name} is a network, which torch differentiates: no --gradient")
        from roomgrad.serving.torch_function import network_function

        function, outputs = network_function(name, make(), rows)
        return cls(
            function, outputs, model_maker(make, offer.options.get("optimizer") or OPTIMIZER, rows)
        )


def _function(offer: Offer, rows: NDArray[Any]) -> tuple[Function, Array]:
    """Return the function of an offer, and its outputs for some rows. Raises SettingsError."""
    name, vjp = offer.name, offer.vjp
    if offer.options.get("optimizer"):
        raise SettingsError(f"--optimizer: {name} is no network, and learns nothing")
    if vjp and offer.gradient:
        raise SettingsError("--vjp and --gradient: the gradient is one of them")
    estimate = Estimate.of(offer.gradient) if offer.gradient else Estimate()
    differentiable = not offer.gradient
    found = function_of(name, offer.target, rows, vjp=vjp, differentiate=differentiable)
    function, outputs = found
    if function.precise and {rows.dtype.kind, outputs.dtype.kind} == {"f"}:
        outputs = outputs.astype(rows.dtype)  # as on the wire
    if differentiable and not (isinstance(function, NumpyFunction) and vjp is None):
        return function, outputs
    together = not takes_seed(offer.target)
    return BlackBox(function, estimate, scale_of(rows), together=together), outputs


def _check(offer: Offer, served: _Served, rows: NDArray[Any], say: Say) -> None:
    """Say how good the gradient is. Raises CheckFailed if it is that of a wrong `vjp`."""
    function = served.function
    noise = Noise.of(function, rows)
    if isinstance(function, BlackBox):
        function.together = not noise.needs_common_numbers
    found = measure(function, rows, served.outputs, noise)
    if found is None:
        say(f"{offer.name}: integers have no gradient")
    elif offer.vjp is None or found.good:
        say(f"{'' if found.good else 'warning: '}gradient of {offer.name}: {found}")
    else:
        raise CheckFailed(
            f"vjp of {offer.name}: {found}; correct it, or let it be estimated by --gradient "
            f"central, or serve it by --no-check if differences are wrong there"
        )


def passage_of(client: redis.Redis, names: Names, name: str, enter: str, leave: str) -> Passage:
    """Return the rooms of a component. Raises SettingsError if it cannot stand there."""
    if not PLAIN.fullmatch(name):
        raise SettingsError(
            f"a component cannot be called {name!r}: expected letters, digits, _ . and -, by --name"
        )
    if enter == leave or not (enter and leave):
        raise SettingsError(f"--enter {enter} --leave {leave}: expected two rooms")
    before = registry.system_of_run(client, names)
    declared = registry.declared_in(client, names).get(name)
    handlers = declared.handlers if declared else ()
    rooms = {room for each in handlers for room, _ in ((each.room, each.type), *each.replies)}
    if declared and rooms != {enter, leave}:
        raise SettingsError(
            f"run {names.run} has a component {name} between {' and '.join(sorted(rooms))}: name "
            f"this one by --name, or the run by --run"
        )
    system = registry.system_of_run(client, names, without=name)
    return Passage(Room(enter), Room(leave), system, before)


def to_stderr(text: str) -> None:
    """Print a line for people."""
    print(text, file=sys.stderr, flush=True)
