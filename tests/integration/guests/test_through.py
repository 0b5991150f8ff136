"""`roomgrad.torch.Through`: rooms as a module in a torch training loop."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from roomgrad.errors import ContractError, ModelError, NoAnswer, SchemaError
from roomgrad.torch import Through
from tests.integration.conftest import EchoRun
from tests.integration.guests.squares import SQUARES, component
from tests.waiting import LIMIT_S, until


@pytest.fixture
def line(echo: EchoRun) -> EchoRun:
    for name in SQUARES.components:
        echo.start(component(name), max_deliveries=3)
    return echo


@pytest.fixture
def through(line: EchoRun) -> Iterator[Through]:
    made = module(line)
    yield made
    made.close()


def module(line: EchoRun, enter: str = "a", leave: str = "c", **options: object) -> Through:
    return Through(
        SQUARES,
        enter,
        leave,
        run=line.names.run,
        redis_url=line.url,
        **{"timeout_s": LIMIT_S, **options},  # type: ignore[arg-type]
    )


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def learned(line: EchoRun) -> int:
    return line.counter("learned", "first")


def memories(line: EchoRun) -> int:
    return sum(int(line.client.hlen(line.names.memory(each))) for each in SQUARES.components)


def test_its_gradients_are_those_of_the_function(line: EchoRun) -> None:
    through = module(line, learn=False)
    assert torch.autograd.gradcheck(through, (doubles(0.5, 1.0, 1.5),))
    assert learned(line) == 0
    gc.collect()  # some of its outputs were never differentiated
    through.flush()
    until(lambda: memories(line) == 0)
    through.close()


def test_a_loop_trains_a_network_before_and_one_behind(through: Through) -> None:
    torch.manual_seed(0)
    before = nn.Sequential(nn.Linear(1, 1), nn.Softplus())
    behind = nn.Linear(1, 1)
    both = [*before.parameters(), *behind.parameters()]
    optimizer = torch.optim.Adam(both, lr=0.05)
    inputs = torch.linspace(0, 1, 8)[:, None]
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        middle = through(before(inputs)[:, 0])
        loss = (behind(middle[:, None]) - 3 * inputs).square().mean()
        loss.backward()
        assert all(each.grad is not None and each.grad.isfinite().all() for each in both)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


def test_components_learn_also_if_no_input_has_a_gradient(line: EchoRun, through: Through) -> None:
    inputs = torch.tensor([2.0], dtype=torch.float64)
    through(inputs).sum().backward()
    assert learned(line) == 1
    assert inputs.grad is None


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_validates(
    line: EchoRun, through: Through, context: type[torch.no_grad]
) -> None:
    with context():
        output = through(doubles(2.0))
    assert output.tolist() == [16.0]
    assert not output.requires_grad
    assert memories(line) == 0


def test_it_may_teach_nobody(line: EchoRun) -> None:
    through = module(line, learn=False)
    (x := doubles(3.0)).square()
    through(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [108.0]
    assert line.counter("differentiated", "second") == 1
    assert learned(line) == 0
    assert not through(torch.ones(1, dtype=torch.float64)).requires_grad
    assert memories(line) == 0
    through.close()


def test_several_passes_before_one_backward_and_in_another_order(
    line: EchoRun, through: Through
) -> None:
    inputs = [doubles(float(n)) for n in range(1, 5)]
    outputs = [through(each) for each in inputs]
    outputs[2].sum().backward()
    (outputs[0] + outputs[3] + through(outputs[1])).sum().backward()
    found = [each.grad.item() for each in inputs if each.grad is not None]
    assert found == [4.0, 16 * 2.0**15, 4 * 27.0, 4 * 64.0]
    assert memories(line) == 0


def test_an_output_that_is_never_used_is_given_up(line: EchoRun, through: Through) -> None:
    output = through(doubles(1.0))
    assert memories(line) == 2
    del output
    gc.collect()
    through.flush()
    until(lambda: memories(line) == 0)
    assert line.dead_letters() == []


def test_gradients_of_gradients(through: Through) -> None:
    x = doubles(2.0)
    with pytest.raises(ModelError, match="cannot be differentiated again: call backward without"):
        torch.autograd.grad(through(x).sum(), x, create_graph=True)


def test_another_backward_does_not_teach_twice(line: EchoRun, through: Through) -> None:
    x = doubles(2.0)
    output = through(x).sum()
    output.backward(retain_graph=True)
    with pytest.raises(ModelError, match="the components have learned from it: add up the losses"):
        output.backward()
    assert learned(line) == 1
    assert x.grad is not None
    assert x.grad.tolist() == [32.0]


def test_another_backward_that_teaches_nobody(line: EchoRun) -> None:
    through = module(line, learn=False)
    x = doubles(2.0)
    output = through(x).sum()
    output.backward(retain_graph=True)
    output.backward()  # it passes through the rooms again
    assert x.grad is not None
    assert x.grad.tolist() == [2 * 32.0]
    assert learned(line) == 0
    through.close()


def test_dtype_and_layout_are_those_of_the_caller(through: Through) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        x = torch.ones(6, dtype=dtype)[::2].requires_grad_()
        output = through(x)
        assert (output.dtype, output.shape) == (dtype, (3,))
        output.sum().backward()
        assert x.grad is not None
        assert (x.grad.dtype, x.grad.tolist()) == (dtype, [4.0] * 3)


def test_what_does_not_fit(line: EchoRun, through: Through) -> None:
    with pytest.raises(SchemaError, match=r"DATA: expected shape \(batch,\), got \(2, 2\)"):
        through(torch.ones(2, 2, dtype=torch.float64))
    with pytest.raises(SchemaError, match="DATA: room a takes <f8, got int64"):
        through(torch.ones(2, dtype=torch.int64))
    with pytest.raises(SchemaError, match="room a has no array x, but DATA"):
        through(x=torch.ones(2))
    with pytest.raises(SchemaError, match="expected one tensor, or tensors by name"):
        through(torch.ones(2), torch.ones(2))
    with pytest.raises(NoAnswer, match="negative numbers are not squared here"):
        through(torch.tensor([-1.0]))
    with pytest.raises(ContractError, match="system squares has no DATA/FORWARD in room x"):
        module(line, leave="x")
    with pytest.raises(ContractError, match="nothing that enters room c comes to room a"):
        module(line, enter="c", leave="a")
    assert through(torch.ones(1)).tolist() == [1.0]


def test_a_gradient_that_never_comes_says_why(echo: EchoRun) -> None:
    first = echo.start(component("first"))
    echo.start(component("second"))
    through = module(echo, timeout_s=2.0)
    output = through(doubles(1.0))
    echo.stop(first)
    with pytest.raises(
        NoAnswer,
        match=r"DATA/GRADIENT in room b has waited .* s for first, of which no replica is alive",
    ):
        output.sum().backward()
    through.close()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch's own compiler
def test_a_compiled_loop(through: Through) -> None:
    """torch.compile leaves the module as it is."""
    compiled = torch.compile(lambda x: through(x * 2).sum(), backend="eager")
    x = doubles(1.0)
    compiled(x).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2 * 4 * 8.0]


def test_it_can_be_copied_and_shown(through: Through) -> None:
    import pickle

    assert repr(through) == "Through(a -> c, learn=True)"
    assert list(through.parameters()) == []
    copy = pickle.loads(pickle.dumps(through))
    assert copy(torch.ones(1)).tolist() == [1.0]
    copy.close()
