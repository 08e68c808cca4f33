"""OpenTelemetry in tests: providers for driver and workers, and tasks that make spans there."""

from __future__ import annotations

import json
import os

from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import aioray

FILE = "AIORAY_TEST_SPANS"  # environment variable: where the spans of all processes go


class FileExporter(SpanExporter):
    """Appends each span as a line of JSON, from whatever process."""

    def export(self, spans):
        lines = [{**json.loads(span.to_json()), "pid": os.getpid()} for span in spans]
        with open(os.environ[FILE], "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return SpanExportResult.SUCCESS


def provide():
    """What a startup hook does."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
    trace.set_tracer_provider(provider)


def refuse():
    raise LookupError("no collector")


def own(name):
    """A span of the user's."""
    return trace.get_tracer("test").start_as_current_span(name)


def leaf(name):
    with own(name):
        return os.getpid()


async def leaf_coroutine(name):
    with own(name):
        return os.getpid()


def leaves(name, count):
    for number in range(count):
        with own(f"{name} {number}"):
            yield number


class Actor:
    def __init__(self):
        with own("in __init__"):
            pass

    def call(self, name):
        return leaf(name)


class AsyncActor:
    async def call(self, name):
        return leaf(name)

    async def call_others(self, name):
        with own(name):
            return await aioray.remote(leaf).remote(f"below {name}")


def branch(actor_class, **options):
    with own("in branch"):
        actor = aioray.remote(actor_class).options(**options).remote()
        aioray.get(actor.call.remote("in call"))
        return aioray.get(aioray.remote(leaf).remote("in leaf"))


def carried():
    return baggage.get_baggage("customer")


def current():
    context = trace.get_current_span().get_span_context()
    return context.span_id
