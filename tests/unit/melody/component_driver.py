"""Components of the melody system played without Redis: each remembers between two messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Component, Message
from roomgrad.testing import Called, call, call_dead, call_start
from roomgrad_melody.contract import (
    CUSTOM,
    EVOLUTION_ROOM,
    FORWARD,
    GRADIENT,
    HEADS,
    TRAININPUT,
    TRAINOUTPUT,
    USER,
)
from roomgrad_melody.evalnet.handlers import component as evalnet
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.evolution.handlers import component as evolution
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.genome import canonical, from_text, from_texts, pair_key, random_genomes
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.ordinal import lower_bound, mixture

GENOMES = random_genomes(5, 1, 60)


class Player:
    """A component whose memory, tables and model live here, not in Redis."""

    def __init__(self, component: Component, settings: Any) -> None:
        self.component = component
        self.settings = settings
        self.memory: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, dict[str, Any]]] = {}
        self.state: Any = None
        self.log: list[dict[str, Any]] = []
        self.called = Called()

    def start(self) -> list[Message]:
        """What it says first."""
        return self._keep(call_start(self.component, settings=self.settings, tables=self.tables))

    def hear(self, message: Message) -> list[Message]:
        """What it says to a message."""
        return self._keep(
            call(
                self.component,
                message,
                settings=self.settings,
                memory=self.memory,
                tables=self.tables,
                state=self.state,
            )
        )

    def give_up(self, root_id: str) -> list[Message]:
        """What it says when a root is dead."""
        return self._keep(
            call_dead(
                self.component,
                root_id,
                settings=self.settings,
                memory=self.memory,
                tables=self.tables,
            )
        )

    def _keep(self, called: Called) -> list[Message]:
        self.called, self.memory, self.tables = called, called.memory, called.tables
        self.state = called.state
        self.log += [record for _, record in called.appended]
        said = [*called.replies, *called.sent]
        return [message for message in said if not message.room.startswith("_")]


class Learner(Player):
    """The learner, and what it hears from the others."""

    def __init__(self, **settings: Any) -> None:
        chosen = {"nr_of_unlabeled_data": 20, "again": 0.0, "strategy": "least_confident"}
        chosen["ask"] = "ratings"
        super().__init__(learner, LearnerSettings(**{**chosen, **settings}))

    def start(self) -> list[Message]:
        """What it says first, when its first candidates are scored."""
        return self.scores(super().start(), "v0")

    @property
    def now(self) -> dict[str, Any]:
        """The state."""
        return self.tables["learning"]["now"]

    @property
    def questions(self) -> dict[str, dict[str, Any]]:
        return {n: q for n, q in self.tables.get("questions", {}).items() if q["open"]}

    @property
    def labels(self) -> dict[str, int]:
        return {name: label["rating"] for name, label in self.tables.get("labels", {}).items()}

    def generation(self, number: int = 0, version: str = "v0", count: int = 25) -> list[Message]:
        """It hears of a rated generation and has its own questions for scores answered."""
        genomes = random_genomes(9, number + 1, count)
        message = rated(genomes, version, GENERATION=np.array(number))
        return self.scores(self.hear(message), version)

    def scores(self, said: list[Message], version: str) -> list[Message]:
        """Answers questions for scores until something else is said."""
        while said and said[0].room == "evolution":
            [question] = said
            said = self.hear(question.reply(EVOLUTION_ROOM, **answer_fields(question, version)))
        return said

    def answer(
        self, melody: str, rating: float | None, rater: str = "anna", **fields: Any
    ) -> list[Message]:
        """It hears a person's answer to the open question of a melody."""
        record = self.tables["questions"].get(melody) or self.tables["labels"][melody]
        return self.hear(answered([melody], [rating], record["root"], rater, **fields))

    def vote(
        self, first: str, second: str, preference: str, rater: str = "anna", **fields: Any
    ) -> list[Message]:
        """It hears a person's vote about the question of one of two melodies."""
        questions, pairs = self.tables["questions"], self.tables.get("pairs", {})
        record = questions.get(second) or questions.get(first) or pairs[pair_key(first, second)]
        return self.hear(voted(first, second, preference, record["root"], rater, **fields))

    def train(self, said: list[Message]) -> tuple[list[Message], list[Message]]:
        """Plays evalnet until nothing more is trained: the batches, and what was said then."""
        batches = []
        while said and said[0].room == "traininput":
            [forward] = said
            batches.append(forward)
            scores = forward.reply(TRAINOUTPUT, np.zeros((len(forward.array), HEADS), "<f4"))
            self.hear(scores)
            inputs = np.zeros(forward.array.shape, "<f4")
            said = self.hear(forward.reply("traininput", inputs, type=GRADIENT, id=forward.id))
        return batches, said


def scores_of(genomes: NDArray[np.uint8], version: str) -> NDArray[np.float32]:
    """Made up, yet a function of melody and version."""
    seed = sum(map(ord, version))
    random = np.random.default_rng([seed, int(genomes.sum())])
    return random.uniform(0.0, 5.0, (len(genomes), HEADS)).astype("<f4")


def answer_fields(question: Message, version: str) -> dict[str, Any]:
    """What evalnet adds to a question for ratings."""
    genomes = question.fields["GENOMES"]
    scores = scores_of(genomes, version)
    answer = {"FITNESS": lower_bound(scores), "PROBS": mixture(scores).astype("<f4")}
    return {**question.fields, **answer, "SCORES": scores, "VERSION": version}


def rated(genomes: NDArray[np.uint8], version: str, **fields: Any) -> Message:
    """A generation of evolution's, as evalnet has rated it."""
    message = Message.open(EVOLUTION_ROOM, type=CUSTOM, GENOMES=genomes, **fields)
    message.fields = answer_fields(message, version)
    return message


def answered(
    melodies: list[str], ratings: list[float | None], root: str, rater: str, **fields: Any
) -> Message:
    """A person's message in `user`."""
    genomes = np.array([from_text(melody) for melody in melodies], np.uint8)
    numbers = np.array([np.nan if r is None else r for r in ratings], "<f8")
    message = Message.open(
        USER, type=CUSTOM, GENOMES=genomes, FITNESS=numbers, RATER=rater, **fields
    )
    message.root_id = root
    return message


def voted(
    first: str,
    second: str,
    preference: str,
    root: str,
    rater: str = "anna",
    listened: Any = (0, 0),
) -> Message:
    """A person's vote in `user`."""
    message = Message.open(
        USER,
        type=CUSTOM,
        PAIR=from_texts([first, second]),
        PREFER=preference,
        RATER=rater,
        LISTENED=np.array(listened),
    )
    message.root_id = root
    return message


def imported(
    genomes: NDArray[np.uint8], ratings: list[float], conflict: str = "replace"
) -> Message:
    """Labels from elsewhere."""
    numbers = np.array(ratings, "<f8")
    return Message.open(USER, type=CUSTOM, GENOMES=genomes, FITNESS=numbers, CONFLICT=conflict)


def asked(**settings: Any) -> Learner:
    """A learner that has asked its first five questions."""
    learner = Learner(**settings)
    questions = learner.start()
    assert {question.room for question in questions} == {"user"}
    assert learner.generation() == []
    assert len(learner.questions) == 5
    return learner


def evolving(**settings: Any) -> tuple[Player, Message]:
    """evolution, and the question that it began with."""
    player = Player(evolution, EvolutionSettings(**{"population": 10, "pause_s": 0.0, **settings}))
    [question] = player.start()
    return player, question


def net() -> Player:
    """evalnet."""
    return Player(evalnet, EvalnetSettings(seed=3))


def forward_of(genomes: Any, **fields: Any) -> Message:
    """A batch in `traininput`."""
    return Message.open(TRAININPUT, canonical(genomes).astype("<f4"), type=FORWARD, **fields)
