"""The greeter: says hello, and again a second after each answer."""

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad_hello.contract import GREETER, HALL, HELLO, TEXT, WORLD


def hello(context: Context) -> Message:
    """Return the first message of a new root."""
    return Message.open(HALL, type=TEXT, SAYS="Hello")


@on(HALL, TEXT, replies=[(HALL, TEXT)], when=lambda message: message.sent_by == WORLD)
def again(message: Message, context: Context) -> None:
    """Hear the answer of the world, and say hello a second later."""
    context.send(hello(context), after_s=1)


component = Component(GREETER, HELLO, RuntimeSettings, handlers=[again], on_start=hello)
