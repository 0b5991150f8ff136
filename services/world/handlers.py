"""The world: answers the greeter."""

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad_hello.contract import GREETER, HALL, HELLO, TEXT, WORLD


@on(HALL, TEXT, replies=[(HALL, TEXT)], when=lambda message: message.sent_by == GREETER)
def answer(message: Message, context: Context) -> Message:
    """Answer by name."""
    return message.reply(HALL, SAYS=f"{message.fields['SAYS']} {message.sent_by}, this is {WORLD}")


component = Component(WORLD, HELLO, RuntimeSettings, handlers=[answer])
