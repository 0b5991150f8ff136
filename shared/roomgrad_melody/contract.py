"""The contract of the melody maker: rooms, payloads, consumers, and tables, on one page.

evolution -GENOMES-> evolution - evalnet -GENOMES, FITNESS, PROBS-> evolution - evolution, learner
learner   -GENOMES-> user      - a person, or anything else -GENOMES, FITNESS-> user - learner
learner   -PAIR->    user      - a person, or anything else -PAIR, PREFER->    user - learner
learner   -FORWARD->  traininput  - evalnet -FORWARD->  trainoutput - learner
learner   -GRADIENT-> trainoutput - evalnet -GRADIENT-> traininput  - learner

Tables (hashes); each value is a line of JSON, some with arrays after it:

labels      by melody: rating, rater, at, age, version, strategy, plays, guess, root, answer,
            again
pairs       by two melodies, joined by "-" in sorted order: first, second (as shown), prefer, rater,
            at, age, listened, version, strategy, guess, melody (that was asked about), root,
            answer, again
compared    by melody: votes, wins (half a win each if equal)
questions   by melody: root, asked, rank, age, version, strategy, guess, probs, again, against,
            pair, open, rater, until
population  now: the generation that is bred or rated; best: those of highest fitness
generations by number: mean, best, distinct, version
learning    now: labels, pairs, histogram, chain (the open training run), asked, answered,
            agreement, pair_agreement; pool: the candidates
losses      by step: loss, chain (number of the training run); the newest 10,000
curve       by number of the answer: labels, rating, guess, rater

`melody` as a field is the 128 characters 0 and 1 of the canonical melody, so melodies of the same
sound have one field. The stream `labels:log` has every revision of a label, with its genome as it
was given; `pairs:log` every revision of a vote.

A question has `against`, a melody that was heard, if the melody is to be compared with it, and ""
if it is to be rated; either answer is valid. `pair` has both texts, in the order to be shown, if a
vote is asked for again.
"""

from __future__ import annotations

from collections.abc import Container

from roomgrad.rooms import Array, MessageType, Room, Stream, System, Text

CONTROL = Room("control")
EVOLUTION_ROOM = Room("evolution")
TRAININPUT = Room("traininput")
TRAINOUTPUT = Room("trainoutput")
USER = Room("user")

COMMAND = MessageType.COMMAND
CUSTOM = MessageType.CUSTOM
FORWARD = MessageType.FORWARD
GRADIENT = MessageType.GRADIENT

EVOLUTION = "evolution"
EVALNET = "evalnet"
LEARNER = "learner"
LABELLING = "labelling"

START, STOP, NEXT, ASK = "START", "STOP", "NEXT", "ASK"

RATINGS = 6  # 0 to 5
HEADS = 16  # of the network; each gives a score
LABELS_LOG = "labels"  # the stream {melody}:labels:log
PAIRS_LOG = "pairs"  # the stream {melody}:pairs:log

FIRST, SECOND, EQUAL, NEITHER, RETRACTED = "first", "second", "equal", "neither", "retracted"
PREFERENCES = (FIRST, SECOND, EQUAL, NEITHER)
"""Which of two melodies is better; neither: both are bad. `retracted` takes a vote back."""

_GENOMES = Array("|u1", ("n", 128), low=0, high=1, empty=False)


def is_question(fields: Container[str]) -> bool:
    """Return whether the fields of a message in room `user` ask, instead of answering."""
    return ("GENOMES" in fields) != ("PAIR" in fields) and not (
        "FITNESS" in fields or "PREFER" in fields
    )


MELODY = System(
    name="melody",
    components=(EVOLUTION, EVALNET, LEARNER, LABELLING),
    before_fresh=(
        "save its labels first by `roomgrad labels export FILE`, and give the new run "
        "--labels-file FILE"
    ),
    streams=(
        Stream(
            CONTROL,
            COMMAND,
            {
                "CMD": Text(among=(START, STOP, NEXT, ASK)),
                "GENERATION": Array("<i8", (), optional=True),
            },
            (EVOLUTION, LEARNER),
            "START, STOP: of breeding; NEXT: breed from this generation; ASK: more questions",
        ),
        Stream(
            EVOLUTION_ROOM,
            CUSTOM,
            {
                "GENOMES": _GENOMES,
                "FITNESS": Array("<f8", ("n",), optional=True),
                "PROBS": Array("<f4", ("n", RATINGS), optional=True),
                "SCORES": Array("<f4", ("n", HEADS), optional=True),
                "VERSION": Text(optional=True),
                "GENERATION": Array("<i8", (), optional=True),
            },
            (EVOLUTION, EVALNET, LEARNER),
            "GENOMES alone asks; the answer adds a lower bound of the rating, probabilities, "
            "scores of the heads, model version",
        ),
        Stream(
            TRAININPUT,
            FORWARD,
            {"DATA": Array("<f4", ("batch", 128), empty=False)},
            (EVALNET,),
            "canonical melodies",
        ),
        Stream(
            TRAINOUTPUT,
            FORWARD,
            {"DATA": Array("<f4", ("batch", HEADS))},
            (LEARNER,),
            "scores of the heads",
        ),
        Stream(
            TRAINOUTPUT,
            GRADIENT,
            {"DATA": Array("<f4", ("batch", HEADS))},
            (EVALNET,),
            "d loss / d scores",
        ),
        Stream(
            TRAININPUT,
            GRADIENT,
            {"DATA": Array("<f4", ("batch", 128))},
            (LEARNER,),
            "d loss / d inputs",
        ),
        Stream(
            USER,
            CUSTOM,
            {
                "GENOMES": Array("|u1", ("n", 128), optional=True, low=0, high=1, empty=False),
                "FITNESS": Array("<f8", ("n",), optional=True, low=0, high=5, nullable=True),
                "PAIR": Array("|u1", (2, 128), optional=True, low=0, high=1),
                "PREFER": Text(among=(*PREFERENCES, RETRACTED), optional=True),
                "LISTENED": Array("<i8", (2,), optional=True, low=0),
                "RATER": Text(optional=True),
                "RATERS": Text(optional=True, many=True),
                "AT": Array("<f8", ("n",), optional=True, low=0, nullable=True),
                "PLAYS": Array("<i8", ("n",), optional=True),
                "CONFLICT": Text(among=("keep", "replace", "error"), optional=True),
            },
            (LEARNER,),
            "GENOMES or PAIR alone asks, with RATER one person; an answer adds ratings 0 to 5, or "
            "null to take one back; or PREFER, and ms for which each was LISTENED to; "
            "CONFLICT: an import, of which RATERS and AT may say by whom and when (unix s)",
        ),
    ),
)
