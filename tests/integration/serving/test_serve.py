"""What is served learns or differentiates through real rooms, as torch does in one process."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from roomgrad import Client, Message
from roomgrad.component import Component
from roomgrad.errors import CheckFailed, ContractError, NoAnswer, SettingsError
from roomgrad.redis import registry
from roomgrad.runtime import runs
from roomgrad.serving.program import Program
from roomgrad.serving.serve import Offer, Options, component_of
from roomgrad.testing import running
from roomgrad.torch import Through
from roomgrad_trebuchet.contract import TREBUCHET
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.trainer.handlers import component as trainer
from tests.integration.conftest import QUICK, EchoRun
from tests.integration.serving import jax_objects, objects
from tests.integration.serving.objects import LIKE
from tests.waiting import LIMIT_S, until

STEPS = {"trainer": {"train_steps": 30, "batch_size": 10}}


def prepared(
    echo: EchoRun, target: Any, enter: str = "a", leave: str = "b", **options: Any
) -> tuple[Component, list[str]]:
    """Return the component of an object, and what was said of it."""
    said: list[str] = []
    given: Options = {"like": LIKE, **options}  # type: ignore[typeddict-item]
    offer = Offer(target, enter, leave, given)
    return component_of(echo.client, echo.names, offer, said.append), said


def served(echo: EchoRun, target: Any, enter: str = "a", leave: str = "b", **options: Any) -> str:
    """Start an object, and return what was said of its gradient."""
    component, said = prepared(echo, target, enter, leave, **options)
    echo.start(component)
    return said[-1]


@pytest.fixture
def through(echo: EchoRun) -> Iterator[Any]:
    made: list[Through] = []

    def make(enter: str = "a", leave: str = "b", **options: Any) -> Through:
        limit = {"run": echo.names.run, "redis_url": echo.url, "timeout_s": LIMIT_S}
        made.append(Through(echo.names.run, enter, leave, **limit, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def rows() -> Tensor:
    return torch.tensor(LIKE, requires_grad=True)


def gradient(function: Any) -> Tensor:
    """Return the gradient of the sum of squares of outputs."""
    x = rows()
    function(x).square().sum().backward()
    assert x.grad is not None
    return x.grad


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.norm()))


# networks


def test_a_network_learns_as_in_one_process(echo: EchoRun, through: Any) -> None:
    """Its gradients and its steps are those of the same optimizer on the same network."""
    local = copy.deepcopy(objects.fixed)
    optimizer = torch.optim.Adam(local.parameters(), lr=0.1)
    said = served(echo, objects.fixed, optimizer="adam:0.1", name="fixed")
    assert re.fullmatch(r"gradient of fixed: within 0\.\d\d% of central differences", said)
    module = through()
    for _ in range(3):
        optimizer.zero_grad()
        expected = gradient(local)
        assert close(gradient(module), expected)
        optimizer.step()
    model = echo.client.hget(echo.names.model("fixed"), "step")
    assert model == b"3"


def test_a_function_that_makes_a_network_is_called_with_the_seed(echo: EchoRun) -> None:
    component, _ = prepared(echo, objects.net)
    one, other = (component.make_model(echo.make_settings(seed=3)) for _ in range(2))
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != component.make_model(echo.make_settings(seed=4)).fingerprint()


def test_a_class_of_networks_and_a_function_learn_together(echo: EchoRun, through: Any) -> None:
    served(echo, objects.Aim, "a", "b", optimizer="adam:0.02")
    component, _ = prepared(echo, objects.throw, "b", "c", like=None)  # what Aim sends
    echo.start(component)
    module, losses = through("a", "c"), []
    for _ in range(60):
        loss = (module(rows().detach()) - 70).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 10


# functions


@pytest.mark.parametrize(
    ("target", "options"),
    [
        (objects.throw, {}),
        (objects.shoot, {}),
        (objects.shoot, {"vjp": objects.shoot_vjp}),
        (objects.given, {}),
        (objects.shoot, {"gradient": "central"}),
        (objects.throw, {"gradient": "central"}),
        (objects.shoot, {"gradient": "forward"}),
        (objects.gusty, {}),
        (jax_objects.throw, {}),
        (jax_objects.throw, {"gradient": "central"}),
        (jax_objects.branching, {}),
        (jax_objects.gusty, {}),
    ],
    ids=[
        *("torch", "numpy", "vjp", "attribute", "central", "torch-box", "forward", "seed"),
        *("jax", "jax-box", "jax-untraceable", "jax-seed"),
    ],
)
def test_a_function_is_differentiated(
    echo: EchoRun, through: Any, target: Any, options: dict[str, Any]
) -> None:
    said = served(echo, target, name="throw", **options)
    assert "within 0." in said, said
    module = through()
    x = rows()
    found = module(x)
    if "gusty" not in target.__name__:
        assert close(found.detach(), objects.throw(rows()).detach())
    found.backward(torch.ones(2))
    expected = torch.autograd.grad(objects.throw(y := rows()).sum(), y)[0]
    assert x.grad is not None
    assert close(x.grad, expected, 5e-3)
    assert echo.client.hlen(echo.names.memory("throw")) == 0
    assert not echo.dead_letters()


def test_spsa_is_right_on_average(echo: EchoRun, through: Any) -> None:
    said = served(echo, objects.shoot, gradient="spsa:256", name="throw")
    spread = re.fullmatch(r"gradient of throw: right on average, standard deviation (\d+)%", said)
    assert spread is not None
    expected = torch.autograd.grad(objects.throw(y := rows()).sum(), y)[0]
    x = rows()
    through()(x).sum().backward()
    assert x.grad is not None
    error = float((x.grad - expected).norm() / expected.norm())
    assert error < 5 * max(int(spread[1]), 1) / 100


def test_a_torch_function_draws_the_same_forward_and_backward(echo: EchoRun, through: Any) -> None:
    """By the seed of the message: the ratio of outputs is that of gradients."""
    served(echo, objects.drawn)
    x = rows()
    found = through()(x)
    found.sum().backward()
    drawn = (found / objects.throw(rows())).detach()  # of each row
    expected = torch.autograd.grad(objects.throw(y := rows()).sum(), y)[0] * drawn[:, None]
    assert x.grad is not None
    assert close(x.grad, expected)


def test_a_black_box_counts_its_calls(echo: EchoRun, through: Any) -> None:
    """One for the outputs; for central differences of a batch two larger ones, however wide."""
    served(echo, objects.shoot)
    through()(rows()).sum().backward()
    assert echo.counter("calls", "shoot") == 3


def test_a_function_that_takes_a_seed_draws_common_numbers(echo: EchoRun, through: Any) -> None:
    """So each of its points is a batch of its own."""
    served(echo, objects.gusty)
    through()(rows()).sum().backward()
    assert echo.counter("calls", "gusty") == 1 + 2 * 3


def test_noise_is_stated(echo: EchoRun) -> None:
    _, said = prepared(echo, objects.turbulent)
    assert re.search(r"noisy without seed; standard deviation \d+\.\d%", said[-1])


def test_each_kind_is_found(echo: EchoRun) -> None:
    """A JAX or torch function that can be differentiated is no black box."""
    for target, kind in (
        (objects.throw, "a torch function, (batch, 3)"),
        (jax_objects.throw, "a JAX function, (batch, 3)"),
        (jax_objects.branching, "a numpy function, differentiated by central differences"),
        (objects.shoot, "a numpy function, differentiated by central differences"),
    ):
        _, said = prepared(echo, target, check=False)
        assert said[0].startswith(f"{target.__name__}: {kind}"), said


# programs

SOLVER = f"{sys.executable} {Path(__file__).with_name('solver.py')}"


@pytest.fixture
def solver() -> Iterator[Any]:
    made: list[Program] = []

    def make(mode: str = "") -> Program:
        made.append(Program(f"{SOLVER} {mode}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_program_is_differentiated(echo: EchoRun, through: Any, solver: Any) -> None:
    said = served(echo, solver(), name="solver")
    assert "within 0.0" in said, said
    x = rows()
    through()(x).sum().backward()
    expected = torch.autograd.grad(objects.throw(y := rows()).sum(), y)[0]
    assert x.grad is not None
    assert close(x.grad, expected)


def test_a_program_that_dies_is_started_again(echo: EchoRun, through: Any, solver: Any) -> None:
    """What it was asked is asked again, of the next one."""
    served(echo, solver("dies"), name="solver", check=False)
    module = through()
    for _ in range(6):
        found = module(rows().detach())
        assert close(found.detach(), objects.throw(rows()).detach())
    assert not echo.dead_letters()


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("chats", "wrote 'solving...', expected a line with a JSON array of 2 rows"),
        ("loses", r"wrote '\[[\d.]+\]', expected a line with a JSON array of 2 rows"),
    ],
)
def test_a_wrong_line_is_a_dead_letter(
    echo: EchoRun, through: Any, solver: Any, mode: str, sentence: str
) -> None:
    """The next batch is answered by a new process, which knows nothing of the line."""
    served(echo, solver(mode), name="solver", check=False)
    module = through()
    with pytest.raises(NoAnswer, match=sentence):
        module(torch.full((2, 3), 7.0))
    assert len(echo.dead_letters()) == 1
    assert close(module(rows().detach()).detach(), objects.throw(rows()).detach())


# the contract


def test_its_streams_join_the_contract_of_the_run(echo: EchoRun, through: Any) -> None:
    served(echo, objects.shoot)
    system = registry.system_of_run(echo.client, echo.names)
    assert system is not None
    assert {each.key for each in system.consumed_by("shoot")} == {
        ("a", "DATA/FORWARD"),
        ("b", "DATA/GRADIENT"),
    }
    assert system.stream("b", "DATA/FORWARD").schema["DATA"].describe() == "(batch,)"


def test_without_rows_the_run_must_know_the_room(echo: EchoRun) -> None:
    with pytest.raises(SettingsError, match=r"what room a carries is unknown.*--like"):
        prepared(echo, objects.shoot, like=None)


def test_it_is_served_again_without_rows(echo: EchoRun) -> None:
    served(echo, objects.shoot)
    _, said = prepared(echo, objects.shoot, like=None)
    assert "(batch, 3) in room a" in said[0]


def test_it_takes_the_place_of_a_component_of_a_system(echo: EchoRun) -> None:
    """The rooms are those of the system, which was started before; its trainer trains it."""
    runs.forget(echo.client, TREBUCHET, echo.names, "controlmodel")
    for each in (trainer, simulator):
        settings = each.settings(run=echo.names.run, **QUICK, **STEPS.get(each.name, {}))
        echo.stack.enter_context(running(each, settings, echo.url))
    until(lambda: registry.declared_in(echo.client, echo.names).keys() >= {"trainer", "simulator"})
    said = served(echo, objects.Pilot, "input", "model", like=None, name="pilot")
    assert said.startswith("gradient of pilot: within 0.")
    until(lambda: echo.counter("finished", "trainer") == 30)
    assert echo.client.hget(echo.names.model("pilot"), "step") == b"30"
    system = registry.system_of_run(echo.client, echo.names)
    assert system is not None
    assert set(system.components) == {*TREBUCHET.components, "pilot"}
    assert not echo.dead_letters()


def test_it_forgets_a_root_that_an_older_component_gives_up(echo: EchoRun) -> None:
    """Also one that was started before this one joined the run."""
    served(echo, objects.broken, "b", "c", check=False)
    served(echo, objects.Aim, "a", "b", name="aim")
    system = registry.system_of_run(echo.client, echo.names)
    assert system is not None
    with Client(system, echo.names.run, echo.url) as client:
        client.send(Message.open("a", np.array(LIKE, "<f4")))
    until(lambda: echo.dead_letters())
    until(lambda: not echo.client.hlen(echo.names.memory("aim")))
    reads = echo.client.xinfo_groups(echo.names.stream("@aim", "LOG/ERROR"))
    assert int(reads[0]["entries-read"]) == 1


def test_what_waits_for_it_is_kept_by_an_older_component(echo: EchoRun) -> None:
    """Also if its neighbor was started before this one joined the run, and keeps no history."""
    first, _ = prepared(echo, objects.Aim, "a", "b", name="first")
    echo.start(first, history_entries=1)
    after, _ = prepared(echo, objects.throw, "b", "c", name="after", like=None)
    echo.stop(echo.start(after))
    system = registry.system_of_run(echo.client, echo.names)
    assert system is not None
    with Client(system, echo.names.run, echo.url) as client:
        for _ in range(20):
            client.send(Message.open("a", np.array(LIKE, "<f4")))
    inbox = echo.names.stream("a", "DATA/FORWARD")
    until(lambda: echo.client.xlen(inbox) == 1)  # trimmed, as all of it is done
    echo.start(after)
    until(lambda: echo.client.xlen(echo.names.stream("c", "DATA/FORWARD")) == 20)


# refusals


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        (objects.constants, {}, "dict is {'gravity': 9.81}, a dict: expected an nn.Module"),
        (objects.mean, {}, r"mean turns \(2, 3\) into \(3,\): expected one row out"),
        (objects.shoot, {"like": [[1, 2]]}, r"rows of shape \(2, 2\).*not enough values"),
        (objects.net, {"like": [[1, 2]]}, r"rows of shape \(2, 2\).*mat1 and mat2"),
        (objects.net, {"optimizer": "adm"}, "--optimizer adm: there are .*adam"),
        (objects.net, {"optimizer": "adam:x"}, "expected a learning rate, like adam:1e-3"),
        (objects.shoot, {"optimizer": "adam"}, "shoot is no network, and learns nothing"),
        (objects.net, {"gradient": "central"}, "net is a network, which torch differentiates"),
        (objects.shoot, {"gradient": "middle"}, "there are central, forward, spsa, and spsa:N"),
        (objects.shoot, {"leave": "a"}, "expected two rooms"),
        (objects.shoot, {"name": "a b"}, "letters, digits"),
        (objects.shoot, {"like": ["x"]}, "--like: expected rows of numbers"),
    ],
)
def test_what_cannot_be_served_is_refused(
    echo: EchoRun, target: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((SettingsError, ContractError), match=sentence):
        prepared(echo, target, **options)


def test_a_wrong_vjp_is_refused_by_how_much_and_where(echo: EchoRun) -> None:
    with pytest.raises(
        CheckFailed,
        match=r"vjp of shoot: differs from central differences by [\d.]+%, most at "
        r"DATA\[\d, 2\]: \S+, expected \S+; correct it",
    ):
        prepared(echo, objects.shoot, vjp=objects.half_vjp)
    prepared(echo, objects.shoot, vjp=objects.half_vjp, check=False)


def test_outputs_that_do_not_fit_the_room_are_refused(echo: EchoRun) -> None:
    served(echo, objects.throw, "b", "c", name="after")
    with pytest.raises(ContractError, match=r"room b: .*\(batch, 3\), got \(2,\)"):
        prepared(echo, objects.shoot, "a", "b")


def test_a_name_stands_between_two_rooms(echo: EchoRun) -> None:
    served(echo, objects.shoot, "a", "b")
    with pytest.raises(SettingsError, match="a component shoot between a and b: name this one by"):
        prepared(echo, objects.shoot, "c", "d")


def test_two_that_answer_the_same_gradient_are_refused(echo: EchoRun) -> None:
    served(echo, objects.shoot, "a", "b")
    with pytest.raises(ContractError, match="shoot and throw answer the same DATA/FORWARD"):
        prepared(echo, objects.throw, "a", "b")


def test_gradients_of_the_wrong_shape_become_dead_letters(echo: EchoRun, through: Any) -> None:
    served(echo, objects.shoot, vjp=objects.transposed_vjp, check=False)
    found = through(leave="b")(rows())
    with pytest.raises(Exception, match=r"returned \(3, 2\), expected the shape of its inputs"):
        found.sum().backward()
    until(lambda: echo.dead_letters())
