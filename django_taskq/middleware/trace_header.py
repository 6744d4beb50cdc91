"""The header `trace` of a message: the context that it was created in, and the attempt before.

A JSON object of the fields of the configured propagators (W3C's `traceparent` and `tracestate` unless OTEL_PROPAGATORS
says otherwise), and `previous`, the `traceparent` of the attempt before. Anybody may have written it: what makes no
sense is passed over.
"""

from __future__ import annotations

import logging

import msgspec
from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

logger = logging.getLogger(__name__)

HEADER = "trace"
PREVIOUS = "previous"
LONGEST_HEADER = 16_384  # bytes; W3C lets tracestate and baggage have 8 KiB each

_w3c = TraceContextTextMapPropagator()
_decode = msgspec.json.Decoder(dict[str, str]).decode


def fields_of(headers: dict[str, str]) -> dict[str, str]:
    """What the header carries."""
    text = headers.get(HEADER, "")
    if not text or len(text) > LONGEST_HEADER:
        return {}
    try:
        return _decode(text)
    except (msgspec.MsgspecError, ValueError):
        return {}


def current_header() -> dict[str, str]:
    """The header that says that the current span creates a message; {} where nothing traces."""
    fields: dict[str, str] = {}
    propagate.inject(fields)
    return _header(fields)


def header_after(fields: dict[str, str], span: trace.Span) -> dict[str, str]:
    """The header of the next attempt of a message whose header has these fields: `span` was the one before."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, trace.set_span_in_context(span))
    return _header({**fields, PREVIOUS: carrier["traceparent"]} if carrier else fields)


def context_of(fields: dict[str, str]) -> otel.Context:
    """The context that a message came with, and nothing of this thread's own."""
    try:
        return propagate.extract(fields, otel.Context())
    except Exception as error:  # noqa: BLE001 - a propagator of the project must not fail the task
        logger.debug("a trace header was passed over: %r", error)
        return otel.Context()


def creation_of(fields: dict[str, str]) -> trace.SpanContext:
    """The span in which a message was created; an invalid one where it is not known."""
    return _span_of(fields.get("traceparent", ""), fields)


def previous_of(fields: dict[str, str]) -> trace.SpanContext:
    """The span of the attempt before; an invalid one where it is not known."""
    return _span_of(fields.get(PREVIOUS, ""), {})


def _span_of(traceparent: str, fields: dict[str, str]) -> trace.SpanContext:
    if not traceparent:
        return trace.INVALID_SPAN_CONTEXT
    found = _w3c.extract({**fields, "traceparent": traceparent}, otel.Context())
    return trace.get_current_span(found).get_span_context()


def _header(fields: dict[str, str]) -> dict[str, str]:
    return {HEADER: msgspec.json.encode(fields).decode()} if fields else {}
