"""Vertical learning: rooms, payloads and consumers, on one page.

labelhead  -FORWARD->  rows     - owners    -FORWARD->  embedded
labelhead  -GRADIENT-> embedded - owners    -GRADIENT-> rows
"""

from roomgrad import Array, MessageType, Room, Stream, System

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ROWS, EMBEDDED = Room("rows"), Room("embedded")
LEFT, RIGHT, HEAD = "leftowner", "rightowner", "labelhead"
OWNERS = (LEFT, RIGHT)

TABLE_ROWS = 569
WIDTH = 8  # of the embedding of a row by each owner
_NUMBERS = {"DATA": Array("<i8", ("batch",), low=0, high=TABLE_ROWS - 1)}
_EMBEDDINGS = {"DATA": Array("<f4", ("batch", WIDTH))}

SPLIT = System(
    name="split",
    components=(*OWNERS, HEAD),
    streams=(
        Stream(ROWS, FORWARD, _NUMBERS, OWNERS, "numbers of rows of the table"),
        Stream(EMBEDDED, FORWARD, _EMBEDDINGS, (HEAD,), "what an owner makes of its columns"),
        Stream(EMBEDDED, GRADIENT, _EMBEDDINGS, OWNERS, "d loss / d embedding"),
        Stream(ROWS, GRADIENT, {}, (HEAD,), "an owner has learned", senders=OWNERS),
    ),
)
