"""The standard environment variables of OpenTelemetry that switch spans on.

opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables
"""

from __future__ import annotations

from collections.abc import Mapping

from roomgrad.errors import SettingsError

EXPORTER = "OTEL_TRACES_EXPORTER"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"


def spans(environ: Mapping[str, str]) -> str:
    """Return the name of the variable that switches spans on; an empty text if none does.

    Raises SettingsError for an exporter or a protocol that is not supported.
    """
    exporter = environ.get(EXPORTER, "")
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return ""
    if exporter not in ("", "otlp"):
        raise SettingsError(f"{EXPORTER} is {exporter!r}, allowed is: otlp or none.")
    asked = next((name for name in (EXPORTER, *ENDPOINTS) if environ.get(name)), "")
    for name in PROTOCOLS:
        if asked and environ.get(name, PROTOCOL) != PROTOCOL:
            raise SettingsError(f"{name} is {environ[name]!r}, allowed is: {PROTOCOL}.")
    return asked
