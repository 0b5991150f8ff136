"""Twenty members of an ensemble: their answers are joined, and their gradients added up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.forked import Forked
from tests.integration.conftest import make_echo_run
from tests.integration.graphs.branch import batch
from tests.integration.graphs.committee import (
    ANSWERS,
    CHAIR,
    COMMITTEE,
    ENCODER,
    ENTER,
    FORWARD,
    GRADIENT,
    HIDDEN,
    MODELS,
    one_process,
)
from tests.integration.graphs.graph_run import GraphRun, kill, killed
from tests.waiting import until

LAST = MODELS.names[-1]  # which names the process of all members


class Committee(GraphRun):
    """A run of the committee, whose programs are processes."""

    def train(self, deaths: Sequence[tuple[str, str]]) -> None:
        """Train a batch for each death of a program, which is started again."""
        running: dict[str, Forked] = {}
        for number, (name, point) in enumerate(deaths):
            if name in running:
                kill(running.pop(name))
            others = {ENCODER, CHAIR, LAST} - running.keys() - {name}
            running |= {each: self.spawn(each) for each in others}
            dying = self.spawn(name, point)
            root = self.open(batch(number))
            killed(dying)
            running[name] = self.spawn(name)
            self.home(root)

    def check(self, steps: int) -> None:
        """Require one step of each for each batch, and that nothing is left over."""
        for name in (ENCODER, *MODELS.names):
            counted = [self.echo.counter(each, name) for each in ("applied", "distinct")]
            assert counted == [steps, steps], name
        assert self.echo.counter("joined", CHAIR) == steps
        count = steps * len(MODELS.names)
        for room, type_ in ((ANSWERS, FORWARD), (ANSWERS, GRADIENT), (HIDDEN, GRADIENT)):
            assert self.length(room, type_) == count
        assert self.length(HIDDEN, FORWARD) == self.length(ENTER, GRADIENT) == steps
        assert self.echo.dead_letters() == []
        until(lambda: self.left_over() == {})
        for name, content in one_process(steps).items():
            assert self.content(name) == content, name


@pytest.fixture
def committee(embedded_url: str) -> Iterator[Committee]:
    for echo in make_echo_run(embedded_url):
        yield Committee(echo, COMMITTEE, "committee")


def test_members_and_the_chair_are_killed_between_parts(committee: Committee) -> None:
    """With one batch in flight: the bits are those of one process."""
    committee.train([(LAST, "send 8"), (CHAIR, "send 8")])
    committee.check(2)


@pytest.mark.slow
def test_kills_between_parts_and_between_gradients_change_no_bit(committee: Committee) -> None:
    """Members between answers and between steps, the encoder between the gradients of its sum."""
    points = [1, 2, 11, 20, 21]
    deaths = [(name, f"send {point}") for point in points for name in (LAST, CHAIR, ENCODER)]
    committee.train([each for each in deaths if each != (CHAIR, "send 21")])
    committee.check(14)
