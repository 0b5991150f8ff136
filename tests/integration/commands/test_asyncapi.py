"""`roomgrad asyncapi`: the document of what really runs."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from roomgrad import codec
from roomgrad.inspect import asyncapi
from roomgrad.names import Names
from roomgrad.redis.registry import systems
from roomgrad.rooms import System
from tests.integration.commands.command_line import refused, shown
from tests.integration.conftest import EchoRun
from tests.integration.echo import REQUESTS, echo_component


def resolved(document: dict[str, Any], reference: str) -> Any:
    """What a reference of the document leads to."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def references(found: Any) -> list[str]:
    if isinstance(found, dict):
        own = [found["$ref"]] if isinstance(found.get("$ref"), str) else []
        return own + [each for value in found.values() for each in references(value)]
    return (
        [each for value in found for each in references(value)] if isinstance(found, list) else []
    )


def check(document: dict[str, Any]) -> None:
    """What the specification asks of a document, as far as one without its schema can tell."""
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for reference in references(document):
        assert resolved(document, reference)
    for channel in document["channels"].values():
        assert "{run}" in channel["address"]
        assert "run" in channel["parameters"]
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert all(
            each["$ref"].startswith(f"{channel}/messages/") for each in operation["messages"]
        )
    for message in document["components"]["messages"].values():
        jsonschema.Draft7Validator.check_schema(message["payload"])


@pytest.mark.parametrize("system", systems().values(), ids=lambda system: system.name)
def test_each_contract_makes_a_document(system: System) -> None:
    document = asyncapi.document(system, Names(system.name), {})
    check(document)
    assert len(document["channels"]) == len(system.streams)
    assert yaml.safe_load(asyncapi.as_yaml(document)) == json.loads(json.dumps(document))


def test_a_running_system_is_described_with_what_it_says_of_itself(echo: EchoRun) -> None:
    """And its messages are what the document says."""
    echo.start(echo_component())
    messages = [echo.send(1, 2.5), echo.send(*range(100), HOW=3)]
    document = yaml.safe_load(shown(echo, "asyncapi"))
    check(document)
    assert document["operations"]["echo.repeat"]["summary"].startswith("Reply with twice the input")
    assert document["operations"]["echo.sends.output.DATA.FORWARD"]["action"] == "send"
    assert json.loads(shown(echo, "asyncapi", "--json")) == document
    channel = document["channels"]["input.DATA.FORWARD"]
    run = resolved(document, channel["parameters"]["run"]["$ref"])["default"]
    key = channel["address"].replace("{run}", run)
    assert key == echo.names.stream(*REQUESTS.key)
    payload = document["components"]["messages"]["input.DATA.FORWARD"]["payload"]
    entries = echo.client.xrange(key)
    assert len(entries) == len(messages)
    for _, pairs in entries:
        jsonschema.validate(codec.parse_body(pairs[b"m"]), payload)
    body = codec.parse_body(entries[0][1][b"m"])
    for wrong in ({"DATA": [["x"]]}, {"TYPE": "DATA/TEXT"}, {"MODEL_STATUS": 4}, {"MORE": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**body, **wrong}, payload)


def test_a_system_is_described_without_any_server(echo: EchoRun) -> None:
    assert "title: melody" in shown(echo, "asyncapi", "melody")
    assert "did you mean melody?" in refused(echo, "asyncapi", "melod")
