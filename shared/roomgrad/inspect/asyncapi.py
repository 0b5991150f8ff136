"""A system as an AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0).

Channels are streams; an operation is what a component does with one. The document is generated from
the contract and from what the components declare, so it describes what really runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from roomgrad.messages import MAX_SEED
from roomgrad.names import Names
from roomgrad.rooms import Array, MessageType, Stream, System, Text
from roomgrad.schema import Declaration

VERSION = "3.0.0"
ID = {"type": "string", "minLength": 1, "maxLength": 128}

Json = dict[str, Any]


def document(system: System, names: Names, declared: Mapping[str, Declaration]) -> Json:
    """Return the document of a system that runs under a name."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": system.name,
            "version": "1",
            "description": (
                f"The rooms of system {system.name}. A message is an entry of a Redis stream with "
                f"the fields ID, ROOT_ID and m; the payload below is m. Each is announced on the "
                f"Redis channel of its room."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {_channel_id(each): _channel(each, names) for each in system.streams},
        "operations": _operations(system, declared),
        "components": {
            "messages": {_channel_id(each): _message(each) for each in system.streams},
            "parameters": {
                "run": {
                    "description": "The run's name in braces, which make it a hash tag of Redis.",
                    "default": names.channel("").removesuffix(":"),
                }
            },
        },
    }


def _channel_id(stream: Stream) -> str:
    return f"{stream.room}.{str(stream.type).replace('/', '.')}"


def _channel(stream: Stream, names: Names) -> Json:
    key = names.stream(*stream.key)
    found = {
        "address": "{run}" + key[len(names.channel("")) - 1 :],
        "title": f"{stream.type} in room {stream.room}",
        "messages": {"message": {"$ref": f"#/components/messages/{_channel_id(stream)}"}},
        "parameters": {"run": {"$ref": "#/components/parameters/run"}},
        "bindings": {"redis": {}},
    }
    return found | ({"description": stream.about} if stream.about else {})


def _operations(system: System, declared: Mapping[str, Declaration]) -> Json:
    """Return what each component receives and sends; by the contract if it declares nothing."""
    found: Json = {}
    for component in system.components:
        declaration = declared.get(component)
        if declaration is None:
            for stream in system.consumed_by(component):
                name = f"{component}.receives.{_channel_id(stream)}"
                found[name] = _operation("receive", stream, f"{component} receives it.")
            continue
        for handler in declaration.handlers:
            stream = system.stream(handler.room, handler.type)
            about = handler.about or f"{component} handles it."
            if parts := handler.senders or handler.rooms:
                shared = "ID" if handler.by_id else "ROOT_ID"
                about += f" Those of one {shared} from {', '.join(parts)} together."
            name = f"{component}.{handler.name}"
            name = f"{name}.{handler.room}" if name in found else name
            found[name] = _operation("receive", stream, about)
        for room, type_ in sorted(
            {reply for each in declaration.handlers for reply in each.replies}
        ):
            stream = system.stream(room, type_)
            name = f"{component}.sends.{_channel_id(stream)}"
            found[name] = _operation("send", stream, f"{component} sends it.")
    return found


def _operation(action: str, stream: Stream, summary: str) -> Json:
    channel = f"#/channels/{_channel_id(stream)}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/message"}],
        "summary": summary,
    }


def _message(stream: Stream) -> Json:
    return {
        "name": f"{stream.room} {stream.type}",
        "contentType": "application/json",
        "correlationId": {
            "description": "Set once, and passed from message to message.",
            "location": "$message.payload#/ROOT_ID",
        },
        "payload": payload(stream),
    }


def payload(stream: Stream) -> Json:
    """Return the JSON schema of `m`."""
    required = [name for name, schema in stream.schema.items() if not schema.optional]
    fields = {name: _field(name, schema) for name, schema in stream.schema.items()}
    about = "Carries the ID of the forward message that it answers."
    if stream.senders:
        about += f" Those of one ID are added up, of {', '.join(stream.senders)} in this order."
    is_gradient = stream.type == MessageType.GRADIENT.value
    always, rules = required, {}
    if is_gradient and required:  # which may be empty
        some = {"anyOf": [{"required": [name]} for name in fields]}
        always, rules = [], {"if": some, "then": {"required": required}}
    return {
        "type": "object",
        "required": ["ID", "ROOT_ID", "TYPE", *always],
        **rules,
        "properties": {
            "v": {"const": 1, "description": "Version of the format."},
            "ID": ID | ({"description": about} if is_gradient else {}),
            "ROOT_ID": ID
            | {"description": "Identifies one batch or question, first message to last."},
            "TYPE": {"const": str(stream.type)},
            "TO_ROOM": {"const": stream.room.name},
            "TO": ID,
            "SENT_BY": {"type": "string", "maxLength": 128},
            "MODEL_STATUS": {
                "enum": [1, 2, 3],
                "description": "1 train, 2 validate, 3 differentiate.",
            },
            "SEED": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
            **fields,
        },
        "additionalProperties": not stream.schema,
    }


def _field(name: str, schema: Array | Text) -> Json:
    if isinstance(schema, Text):
        one: Json = {"type": "string", "maxLength": schema.longest}
        one |= {"enum": list(schema.among)} if schema.among else {}
        return {"type": "array", "items": one} if schema.many else one
    return {
        "description": f"{schema.dtype} {schema.describe()}",
        "oneOf": [_lists(schema, len(schema.shape)), _raw(name, schema)],
    }


def _lists(schema: Array, axes: int) -> Json:
    """Return the schema of an array as nested lists."""
    if axes == 0:
        kind: Json = {"type": "number" if schema.kind == "f" else "integer"}
        if schema.kind == "b":
            kind = {"type": ["boolean", "integer"]}
        kind |= {"minimum": schema.low} if schema.low is not None else {}
        kind |= {"maximum": schema.high} if schema.high is not None else {}
        return {"anyOf": [kind, {"type": "null"}]} if schema.nullable else kind
    length = schema.shape[len(schema.shape) - axes]
    exactly = {"minItems": length, "maxItems": length} if isinstance(length, int) else {}
    return {"type": "array", "items": _lists(schema, axes - 1), **exactly}


def _raw(name: str, schema: Array) -> Json:
    """Return the schema of an array whose raw little-endian bytes are a field of the entry."""
    array = {
        "type": "object",
        "required": ["dtype", "shape"],
        "properties": {
            "field": {
                "type": "string",
                "description": f"Field of the entry; {name} if it is missing.",
            },
            "dtype": {"const": schema.dtype},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "minItems": len(schema.shape),
                "maxItems": len(schema.shape),
            },
        },
    }
    return {"type": "object", "required": ["$array"], "properties": {"$array": array}}


class _WithoutAnchors(yaml.SafeDumper):
    """A dumper that repeats equal parts instead of using anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def as_yaml(found: Json) -> str:
    """Return a document as YAML."""
    text: str = yaml.dump(
        found, Dumper=_WithoutAnchors, sort_keys=False, width=100, allow_unicode=True
    )
    return text
