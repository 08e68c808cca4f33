"""`aioray status`: a session at a glance.

Room: cli. The upper half has the layout of `ray status`, whose words programs look for; below
follows what Ray says elsewhere or nowhere: tasks and actors by state, workers, what went wrong.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from aioray.shared.printable import printable

from .common import session_options
from .figures import moment, session_name, size, span, store_use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aioray.state.read.view import View

    from .common import Target

__all__ = ["command", "render"]

FAILURES = 10  # shown, the latest
_RULE = "-" * 63
_MEMORY = ("memory", "object_store_memory")
_ALARMING = ("WARNING", "ERROR", "FATAL")


@click.command(name="status")
@click.option("-v", "--verbose", is_flag=True, help="Show all failures that are on record.")
@session_options
def command(target: Target, *, verbose: bool) -> None:
    """Print what a session has and does: resources, demands, tasks, actors, workers, failures."""
    with target.view() as view:
        click.echo(render(view, time.time(), verbose=verbose))


def render(view: View, now: float, *, verbose: bool = False) -> str:
    """Write the answer. now: Unix time."""
    return "\n".join(map(printable, _lines(view, now, verbose=verbose)))


def _lines(view: View, now: float, *, verbose: bool) -> Iterator[str]:
    meta = view.meta
    began, ended = meta["started_at"], meta["ended_at"]
    yield f"======== Status: {moment(now)} ========"
    if view.alive:
        since = "" if began is None else f"for {span(now - began)}, "
        yield f"Session: {session_name(view)}, {since}driver pid {meta['pid']}"
    else:
        end = "has ended" if ended is None else f"ended {moment(ended)}"
        if None not in (began, ended):
            end += f" after {span(ended - began)}"
        yield f"Session: {session_name(view)}, {end}"
    if meta.get("entrypoint"):
        yield f"Program: {meta['entrypoint']}"
    yield ""
    yield from _nodes(view, verbose=verbose)
    yield ""
    yield from _resources(view)
    yield ""
    yield from _states(view)


def _nodes(view: View, *, verbose: bool) -> Iterator[str]:
    yield "Node status"
    yield _RULE
    yield "Active:"
    yield f" 1 node_{view.meta['node_id']}" if view.alive else " (no active nodes)"
    yield "Pending:"
    yield " (no pending nodes)"
    yield "Recent failures:"
    failures = [event for event in view.events if event[1] in _ALARMING]
    shown = failures if verbose else failures[-FAILURES:]
    if len(shown) < len(failures):
        yield f" ({len(failures) - len(shown)} earlier ones; --verbose shows them)"
    for at, severity, _, message in shown:
        first, *rest = str(message).splitlines() or [""]
        yield f" {moment(at)} {severity} {first}"
        if verbose:
            yield from (f"   {line}" for line in rest)
    if not failures:
        yield " (no failures)"


def _resources(view: View) -> Iterator[str]:
    yield "Resources"
    yield _RULE
    resources = view.live.get("resources")
    if resources is None:
        yield "Total:"
        for name, total in sorted(view.meta.get("total", {}).items()):
            if not name.startswith("node:"):
                yield f" {_amount(name, total)} {name}"
        return
    yield "Total Usage:"
    store = store_use(view)
    for name, total in sorted(resources["total"].items()):
        if name.startswith("node:"):
            continue
        used = total - resources["available"].get(name, 0.0)
        if name == "object_store_memory":
            used = store.used
        yield f" {_amount(name, used)}/{_amount(name, total)} {name}"
    if store.on_disk:
        yield f" {size(store.on_disk)} of objects on disk"
    yield ""
    yield "Pending Demands:"
    demands = view.live.get("demands", [])
    for demand, count in demands:
        yield f" {dict(sorted(demand.items()))}: {count}+ pending tasks/actors"
    if not demands:
        yield " (no resource demands)"
    limiters = view.live.get("limiters", [])
    if limiters:
        yield ""
        yield "Limiters:"
        for each in limiters:
            yield f" {each['name']}: {_use_of(each)}, {each['waiting']} waiting"


def _use_of(limiter: dict[str, Any]) -> str:
    parts = []
    if limiter["concurrency"] is not None:
        parts.append(f"{limiter['running']}/{limiter['concurrency']} running")
    if limiter["rate"] is not None:
        parts.append(f"{limiter['started']}/{limiter['rate']} started in {limiter['per']:g} s")
    return ", ".join(parts)


def _amount(name: str, amount: float) -> str:
    return size(amount) if name in _MEMORY else f"{round(float(amount), 4)}"


def _states(view: View) -> Iterator[str]:
    tasks: Counter[str] = Counter()
    busy: set[int | None] = set()
    again = 0
    glance = view.glance()
    for (_, failed, repeated), count in glance.ended.items():
        tasks["FAILED" if failed else "FINISHED"] += count
        again += count if repeated else 0
    for record in glance.unfinished:
        tasks[record.state] += 1
        again += record.attempt > 0
        if record.state.startswith("RUNNING"):
            busy.add(record.worker)
    retried = min(again, tasks["FAILED"])
    tasks["FAILED"] -= retried  # attempts after which there was another
    yield "Tasks"
    yield _RULE
    yield from _counted(tasks)
    if retried:
        yield f" {retried} retried after a failure"
    yield ""
    yield "Actors"
    yield _RULE
    yield from _counted(Counter(actor["state"] for actor in view.actors))
    restarts = sum(int(actor.get("num_restarts") or 0) for actor in view.actors)
    if restarts:
        yield f" {restarts} restarts"
    yield ""
    yield "Workers"
    yield _RULE
    workers = [each for each in view.workers.values() if each.get("worker_type") == "WORKER"]
    alive = sum(bool(each["is_alive"]) for each in workers) if view.alive else 0
    yield f" {alive} alive, {len(busy)} of them busy" if alive else " (none alive)"
    ends = Counter(
        each.get("exit_type") or "not known how" for each in workers if not each["is_alive"]
    )
    for kind, count in sorted(ends.items()):
        yield f" {count} ended: {kind}"
    breakers = view.live.get("breakers")
    if breakers:
        yield ""
        yield "Breakers"
        yield _RULE
        for name, state, deaths in sorted(breakers):
            yield f" {name}: {state}, {deaths} deaths of workers counted"


def _counted(counts: Counter[str]) -> Iterator[str]:
    found = sorted((state, count) for state, count in counts.items() if count)
    width = max((len(str(count)) for _, count in found), default=0)
    for state, count in found:
        yield f" {count:>{width}} {state}"
    if not found:
        yield " (none)"
