"""Questions: which candidates raters are asked about, and which questions are withdrawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Context, Message
from roomgrad_melody.contract import CUSTOM, USER
from roomgrad_melody.genome import from_texts, texts
from roomgrad_melody.ordinal import guess, mixture, of_scale

from .pool import Pool
from .state import State
from .strategy import choose, far_enough

JUST_RATED = 5  # melodies that are not asked about again while there are others
WITHDRAWN_KEPT = 50  # closed questions of which late answers are still accepted
PICK, REPEAT = 100, 101  # purposes of random numbers

Record = dict[str, Any]


class Asking:
    """The questions of a run, and how their number is maintained."""

    def __init__(self, state: State, pool: Pool, context: Context) -> None:
        self._state = state
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
        partner = self._best_heard()
        chosen = self._pick(candidates, missing + (self._settings.ask != "ratings" and not partner))
        if len(chosen) > missing:  # nothing was heard, so all are compared with one more
            partner, _ = chosen.popitem()
        if rerank:
            self._withdraw(free - chosen.keys())
        self._forget_withdrawn()
        again = self._repeat(chosen)
        fresh = [name for name in chosen if name not in free]
        against = self._against(chosen, partner)
        ratings = ask([name for name in fresh if not against[name]])
        pairs = {name: compare(against[name], name) for name in fresh if against[name]}
        for rank, (name, probs) in enumerate(chosen.items()):
            self._put(name, pairs.get(name, ratings), rank, probs, against=against[name])
        for name, former in again.items():
            pairs[name] = repeated(name, former)
            pair = former.get("pair")
            self._put(name, pairs[name], -1, None, by=former["rater"], pair=pair)
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

    def _pick(self, candidates: Pool, count: int) -> dict[str, NDArray[np.float64]]:
        """Return the melodies that the strategy chooses, best first, each with its PROBS `(6,)`.

        They differ enough from those that were rated lately, and from those that raters hear now.
        """
        heard = [*self._state.recent, *filter(self._is_held, self._questions)]
        far = candidates.only(far_enough(candidates.genomes, from_texts(heard)))
        found = far if len(far) >= count else candidates
        random = self._draws(PICK)
        name, answers = self._settings.strategy, self._state.answers
        order = choose(name, found.scores.astype(np.float64), answers, count, random)
        probs = of_scale(mixture(found.scores[order]), self._state.histogram)
        return dict(zip(texts(found.genomes[order]), probs, strict=True))

    def _against(self, chosen: Iterable[str], partner: str) -> dict[str, str]:
        """Return what each melody is to be compared with; "" if it is to be rated.

        If raters are asked both, their next questions take turns.
        """
        held = len([name for name in self._questions if self._is_held(name)])
        first = self._state.answered + held
        pairs = {"ratings": {}, "pairs": {0, 1}, "both": {1}}[self._settings.ask]
        return {n: partner if i % 2 in pairs else "" for i, n in enumerate(chosen, first)}

    def _best_heard(self) -> str:
        if self._settings.ask == "ratings":
            return ""
        worth = {
            name: record["rating"] for name, record in self._context.table("labels").peek().items()
        }
        for name, record in self._context.table("compared").peek().items():
            worth[name] = 5 * record["wins"] / record["votes"]
        return max(sorted(worth), key=lambda name: worth[name], default="")

    def _repeat(self, chosen: dict[str, NDArray[np.float64]]) -> dict[str, Record]:
        """Return a labelled melody to ask about again, at random, to measure agreement; or none.

        It is one of the rater who answered last, as others may not be here.
        """
        state, latest = self._state, self._state.recent[-1:]
        if state.repeated + 1 > self._settings.again * state.answered or not latest:
            return {}
        labels = self._context.table("labels").peek()
        rater = labels.get(latest[0], {}).get("rater")
        own = {name for name, label in labels.items() if label["rater"] == rater}
        asked = {name for name in own if labels[name]["strategy"]}
        known = sorted(asked - self._questions.keys())
        waiting = any(question["by"] == rater for question in self._questions.values())
        if waiting or not known:
            return {}
        state.repeated += 1
        known = [name for name in known if name not in state.recent[-JUST_RATED:]] or known
        name = known[int(self._draws(REPEAT).integers(len(known)))]
        return {name: labels[name]}

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
            version=self._state.version,
            strategy="again" if by else self._settings.strategy,
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
