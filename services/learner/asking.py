"""Questions: which candidates raters are asked about, and which questions are withdrawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Context, Message
from roomgrad_melody.contract import CUSTOM, USER
from roomgrad_melody.genome import from_texts, texts
from roomgrad_melody.ordinal import guess, mixture, of_scale

from .pool import Pool
from .state import State
from .strategy import PAIR_STRATEGIES, choose, far_enough, highest

JUST_RATED = 5  # melodies that are not asked about again while there are others
WITHDRAWN_KEPT = 50  # closed questions of which late answers are still accepted
PICK, REPEAT = 100, 101  # purposes of random numbers

Record = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What is asked about a melody, and the probabilities of its ratings `(6,)`."""

    probs: NDArray[np.float64]
    against: str
    """What it is to be compared with; "" if it is to be rated."""


class Asking:
    """The questions of a run, and how their number is maintained."""

    def __init__(self, state: State, pool: Pool, heard: Pool, context: Context) -> None:
        self._state = state
        self._heard = heard
        self._settings = context.settings
        self._context = context
        self._table = context.table("questions")
        # Each is a guard of the commit: no rater may lease one while it is withdrawn here.
        self._questions = self._table.get_many(self._table.peek())
        self._now = context.time()
        self._candidates = pool.only(pool.scored).without(self.open - self._free())

    @property
    def open(self) -> set[str]:
        """The melodies of the open questions."""
        return {name for name, question in self._questions.items() if question["open"]}

    def keep_asking(self) -> list[Message]:
        """Open questions until `active_labels` of them are free; return their messages.

        After a training run the free questions are chosen anew; those that are held stay. A melody
        that one rater is asked about again is a message of its own, which only they may answer.
        """
        free = self._free()
        rerank, self._state.rerank = self._state.rerank, False
        missing = self._missing(set() if rerank else free)
        candidates = self._candidates if rerank else self._candidates.without(free)
        if missing <= 0 or not len(candidates):
            return []
        chosen = self._pick(candidates, missing)
        if rerank:
            self._withdraw(free - chosen.keys())
        self._forget_withdrawn()
        again = self._repeat()
        fresh = [name for name in chosen if name not in free]
        ratings = ask([name for name in fresh if not chosen[name].against])
        pairs = {n: compare(chosen[n].against, n) for n in sorted(fresh) if chosen[n].against}
        for rank, (name, choice) in enumerate(chosen.items()):
            message = pairs.get(name, ratings)
            self._put(name, message, rank, choice.probs, against=choice.against)
        for name, former in again.items():
            pairs[name] = repeated(name, former)
            pair, by = former.get("pair"), former["rater"]
            against = pair[0] if pair else ""
            self._put(name, pairs[name], -1, None, by=by, against=against, pair=pair)
        self._state.asked += len(fresh) + len(again)
        self._state.rounds += 1
        return [*([ratings] if len(ratings.fields["GENOMES"]) else []), *pairs.values()]

    def _free(self) -> set[str]:
        """Return the open questions that any rater may lease."""
        return {n for n in self.open if not self._is_held(n) and not self._questions[n]["by"]}

    def _is_held(self, name: str) -> bool:
        question = self._questions[name]
        return bool(question["rater"]) and question["until"] > self._now

    def _missing(self, kept: set[str]) -> int:
        """Return how many questions are missing beside those that are kept."""
        missing: int = self._settings.active_labels - len(kept)
        if self._settings.max_labels:
            held = len([n for n in self._questions if self._is_held(n)])
            taken = self._state.answers + held + len(kept)
            missing = min(missing, self._settings.max_labels - taken)
        return missing

    def _pick(self, candidates: Pool, count: int) -> dict[str, Choice]:
        """Return the melodies that the strategies choose, best first.

        They differ enough from those that were rated lately, and from those that raters hear now.
        """
        near = [*self._state.recent, *filter(self._is_held, self._questions)]
        far = candidates.only(far_enough(candidates.genomes, from_texts(near)))
        found = far if len(far) >= count else candidates
        kinds = self._kinds(count)
        alone = any(kinds) and not len(self._heard)  # then all are compared with one more
        rated = self._choose(found, kinds.count(False) + alone)
        best = rated.only(np.array([-1])) if alone else self._best_heard()
        rated = rated.only(np.arange(len(rated) - alone))
        if not any(kinds):
            return dict(self._choices(rated))
        others = found.without({*texts(rated.genomes), *texts(best.genomes)})
        compared = self._choose_pairs(others, best, kinds.count(True))
        parts = {False: iter(self._choices(rated)), True: iter(self._choices(compared, best))}
        return dict(one for kind in kinds if (one := next(parts[kind], None)) is not None)

    def _kinds(self, count: int) -> list[bool]:
        """Return whether each of the next questions is a pair; both kinds take turns."""
        held = len([name for name in self._questions if self._is_held(name)])
        first, ask = self._state.answered + held, self._settings.ask
        return [
            ask == "pairs" or (ask == "both" and i % 2 == 1) for i in range(first, first + count)
        ]

    def _best_heard(self) -> Pool:
        """Return the melody with the highest belief of those that were heard, if there is one."""
        return self._heard.only(highest(self._heard.scores.mean(axis=1), 1))

    def _choose(self, found: Pool, count: int) -> Pool:
        """Return the melodies that are to be rated."""
        name, answers = self._settings.strategy, self._state.answers
        scores = found.scores.astype(np.float64)
        return found.only(choose(name, scores, answers, count, self._draws(PICK)))

    def _choose_pairs(self, found: Pool, best: Pool, count: int) -> Pool:
        """Return the melodies that are to be compared with the best one."""
        if not count or not len(best):
            return found.only(np.arange(0))
        pick, answers = PAIR_STRATEGIES[self._settings.pair_strategy], self._state.answers
        scores, one = found.scores.astype(np.float64), best.scores[0].astype(np.float64)
        return found.only(pick(scores, one, answers, count, self._draws(PICK)))

    def _choices(self, chosen: Pool, best: Pool | None = None) -> list[tuple[str, Choice]]:
        """Return melodies with what is asked about them; they are against the best, if given."""
        against = "" if best is None else "".join(texts(best.genomes))
        probs = of_scale(mixture(chosen.scores), self._state.histogram)
        return [(n, Choice(p, against)) for n, p in zip(texts(chosen.genomes), probs, strict=True)]

    def _repeat(self) -> dict[str, Record]:
        """Return an answered melody to ask about again, at random, to measure agreement; or none.

        It is one of the rater who answered last, as others may not be here. A pair is swapped.
        """
        state, latest = self._state, self._state.recent[-1:]
        if state.repeated + 1 > self._settings.again * state.answered or not latest:
            return {}
        answers = self._answers()
        raters = {answer["melody"]: answer["rater"] for answer in answers.values()}
        rater = raters.get(latest[0])
        own = {name for name, answer in answers.items() if answer["rater"] == rater}
        asked = {name for name in own if answers[name]["strategy"]}
        known = sorted(name for name in asked if answers[name]["about"] not in self._questions)
        waiting = any(question["by"] == rater for question in self._questions.values())
        if waiting or not known:
            return {}
        state.repeated += 1
        lately = state.recent[-JUST_RATED:]
        known = [name for name in known if answers[name]["melody"] not in lately] or known
        answer = answers[known[int(self._draws(REPEAT).integers(len(known)))]]
        return {answer["about"]: answer}

    def _answers(self) -> dict[str, Record]:
        """Return labels and votes with the melody that they are `about`.

        A vote is asked for again with the two melodies swapped, as a question about the first.
        """
        labels = self._context.table("labels").peek()
        found = {n: {**label, "melody": n, "about": n} for n, label in labels.items()}
        if self._settings.ask == "ratings":
            return found
        for name, vote in self._context.table("pairs").peek().items():
            pair = [vote["second"], vote["first"]]
            found[name] = {**vote, "pair": pair, "about": vote["first"]}
        return found

    def _strategy(self, against: str) -> str:
        settings = self._settings
        return str(settings.pair_strategy if against else settings.strategy)

    def _draws(self, purpose: int) -> np.random.Generator:
        """Return random numbers that depend on the seed, the round of questions and a purpose."""
        key = [self._settings.seed, self._state.rounds]
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, purpose]))

    def _withdraw(self, names: set[str]) -> None:
        self._state.asked -= len(names)
        for name in sorted(names):
            self._questions[name] |= {"open": False, "rater": "", "until": 0.0}
            self._table.put(name, **self._questions[name])

    def _forget_withdrawn(self) -> None:
        """Delete the oldest withdrawn questions that no rater holds."""
        gone = [n for n in self._questions.keys() - self.open if not self._is_held(n)]
        gone.sort(key=lambda name: (self._questions[name]["asked"], name))
        for name in gone[:-WITHDRAWN_KEPT]:
            self._table.delete(name)

    def _put(
        self,
        name: str,
        message: Message,
        rank: int,
        probs: Any,
        *,
        by: str = "",
        against: str = "",
        pair: list[str] | None = None,
    ) -> None:
        """Stage a question. by: the one rater who is asked, having answered it before."""
        former = self._questions.get(name, {})
        still = former if former.get("open") else {}
        self._table.put(
            name,
            root=still.get("root", message.root_id),
            asked=still.get("asked", self._now),
            rank=float(rank),
            age=self._state.age,
            version=self._state.version,
            strategy="again" if by else self._strategy(against),
            guess=None if probs is None else float(guess(probs)),
            probs=None if probs is None else [round(float(p), 4) for p in probs],
            again=bool(by),
            by=by,
            against=against,
            pair=pair,
            open=True,
            rater="",
            until=0.0,
        )


def ask(melodies: list[str], rater: str = "") -> Message:
    """Return the message that asks about melodies; if a rater is named, it asks only them."""
    genomes = from_texts(melodies)
    if rater:
        return Message.open(USER, type=CUSTOM, GENOMES=genomes, RATER=rater)
    return Message.open(USER, type=CUSTOM, GENOMES=genomes)


def compare(first: str, second: str, rater: str = "") -> Message:
    """Return the message that asks which of two melodies is better; if named, only this rater."""
    message = Message.open(USER, type=CUSTOM, PAIR=from_texts([first, second]))
    if rater:
        message.fields = {**message.fields, "RATER": rater}
    return message


def repeated(name: str, former: Record) -> Message:
    """Return the message that asks the rater of a label, or of a pair, once more."""
    if former.get("pair"):
        first, second = former["pair"]
        return compare(first, second, former["rater"])
    return ask([name], former["rater"])
