"""Reinforcement learning by an ensemble: rooms, payloads and consumers, on one page.

control     -FORWARD-> actions      - cartpole -FORWARD-> observations - members -> votes
aggregation -FORWARD-> actions      - and so on, until all environments are done
cartpole    -REWARD->  observations - members  -FORWARD-> lessons      - aggregation
aggregation -GRADIENT-> lessons     - members  -CUSTOM->  learned      - control
control     -COMMAND-> evolution    - selection, which GETs and SETs weights, -CUSTOM-> evolution
"""

from roomgrad import Array, Ensemble, MessageType, Room, Stream, System, weight_messages
from roomgrad.errors import ContractError
from roomgrad.systems import sized

FORWARD, GRADIENT, REWARD = MessageType.FORWARD, MessageType.GRADIENT, MessageType.REWARD
COMMAND, CUSTOM = MessageType.COMMAND, MessageType.CUSTOM

ACTIONS, OBSERVATIONS, VOTES = map(Room, ("actions", "observations", "votes"))
LESSONS, LEARNED = map(Room, ("lessons", "learned"))
EVOLUTION, WEIGHTS, FOUND, REPLACED = map(Room, ("evolution", "weights", "found", "replaced"))
CARTPOLE, AGGREGATION, SELECTION, CONTROL = "cartpole", "aggregation", "selection", "control"

ENVS = 128
"""How many environments act in lockstep in an episode."""

_FLAGS = Array("|b1", (ENVS,))
_PASSED = {
    "DATA": Array("<f4", (ENVS, 4)),
    "REWARD": Array("<f8", (ENVS,)),
    "DONE": _FLAGS,
    "TRUNCATED": _FLAGS,
}
_EPISODE = {
    "DATA": Array("<f8", ("steps", ENVS)),
    "ACTIONS": Array("<i8", ("steps", ENVS), low=0, high=1),
    "OBSERVATIONS": Array("<f4", ("steps+1", ENVS, 4)),
    "LENGTHS": Array("<i8", (ENVS,)),
    "TRUNCATED": _FLAGS,
}


def contract(members: int = 20) -> System:
    """Return the contract of an ensemble of this size. Raises ContractError for one alone."""
    if members < 2:
        raise ContractError(f"rlgym: expected 2 members or more, whose votes are joined: {members}")
    own = Ensemble("policy", members)
    actions = {"DATA": Array("<i8", (ENVS,), low=0, high=1, optional=True)}
    probabilities = {"DATA": Array("<f4", (ENVS, 2), low=0, high=1)}
    rows = Array("<f4", ("rows",))
    lessons = {"DATA": rows, "ADVANTAGE": rows}
    gradients = {"DATA": rows}
    learned = {"RETURN": Array("<f8", ()), "CONTRIBUTION": Array("<f8", ())}
    evolved = {"REFUSED": Array("<i8", ())}
    contributions = {"DATA": Array("<f8", (members,))}
    return System(
        name="rlgym",
        components=(CARTPOLE, *own.names, AGGREGATION, SELECTION, CONTROL),
        streams=(
            Stream(ACTIONS, FORWARD, actions, (CARTPOLE,), "none: a new episode, with SEED"),
            Stream(OBSERVATIONS, FORWARD, _PASSED, own.names, "of one step"),
            Stream(OBSERVATIONS, REWARD, _EPISODE, own.names, "a whole episode, to learn from"),
            Stream(VOTES, FORWARD, probabilities, (AGGREGATION,), "of both actions, by a member"),
            *own.streams(Stream(LESSONS, FORWARD, lessons, (AGGREGATION,), "of actions taken")),
            *own.streams(Stream(LESSONS, GRADIENT, gradients, (), "d loss / d log-probability")),
            Stream(LEARNED, CUSTOM, learned, (CONTROL,), "a member has learned from an episode"),
            Stream(EVOLUTION, COMMAND, contributions, (SELECTION,), "evolve, by contributions"),
            Stream(WEIGHTS, COMMAND, weight_messages.ASKED, own.names, "GET, of all members"),
            *own.streams(Stream(WEIGHTS, COMMAND, weight_messages.ASKED, (), "SET, of one")),
            Stream(FOUND, CUSTOM, weight_messages.ANSWERED, (SELECTION,), "weights of a member"),
            Stream(REPLACED, CUSTOM, weight_messages.ANSWERED, (SELECTION,), "they are replaced"),
            Stream(EVOLUTION, CUSTOM, evolved, (CONTROL,), "all are replaced"),
        ),
    )


RLGYM = sized(contract)
POLICIES = Ensemble("policy", sum(name.startswith("policy.") for name in RLGYM.components))

ENOUGH = (POLICIES.members + 1) // 2
"""So many members are enough, `WAIT_S` seconds after the first; a process is restarted by then."""

WAIT_S = 30.0
