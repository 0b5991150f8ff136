"""Hello World: one room, in which both components hear what is said."""

from roomgrad import MessageType, Room, Stream, System, Text

HALL, TEXT = Room("hall"), MessageType.TEXT
GREETER, WORLD = "greeter", "world"

HELLO = System(
    name="hello",
    components=(GREETER, WORLD),
    streams=(Stream(HALL, TEXT, {"SAYS": Text()}, (GREETER, WORLD), "what is said"),),
)
