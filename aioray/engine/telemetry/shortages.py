"""Says who waits for resources that will not come, and what to do.

Room: engine. Builds texts, decides nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ...core.devices import UNIT
from ...core.groups import Group
from ...core.model import SupervisedActor
from ...shared.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ...core.commands import ReportStarved
    from ...core.devices import Demand
    from ...core.model import Task

__all__ = ["infeasible", "starved"]

SHOWN = 5  # at most, of those that wait for what others keep, and of those others


def infeasible(task: Task, needs: Mapping[str, float], total: Mapping[str, float]) -> str:
    """Return why a task, or the reservation of a placement group, will wait for ever."""
    group, name = task.scheduling_class.reserves, printable(task.name)
    if group is None:
        return (
            f"Task {name} asks for {needs}, but this machine has {total} in total: it will "
            f"never run. Give init() more num_cpus, num_gpus or resources, or ask for less."
        )
    if group.nodes_wanted > 1:
        return (
            f"The {name} has {group.nodes_wanted} bundles and the strategy STRICT_SPREAD, "
            f"which needs as many machines, and there is one: it will never be ready. Use another "
            f"strategy."
        )
    if all(amount <= total.get(name, 0.0) for name, amount in needs.items()):
        shares = ", ".join(f"{amount / UNIT:g}" for amount in group.devices_wanted if amount)
        return (
            f"The {name} asks for {shares} of a GPU in its bundles, and these do not fit on "
            f"the {total['GPU']:g} that this machine has, as a share is of one GPU: it will never "
            f"be ready. Give init() more num_gpus, or ask for other shares."
        )
    return (
        f"The {name} asks for {needs} in its bundles together, but this machine has {total} "
        f"in total: it will never be ready. Give init() more num_cpus, num_gpus or resources, or "
        f"ask for less."
    )


_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}  # of init()


def starved(command: ReportStarved, title: Callable[[Group], str]) -> str:
    """Say who waits for what, who holds it for life, and what to do. title: of a group."""
    first, count = command.waiting[0][0], sum(count for _, count in command.waiting)
    cls = first.scheduling_class
    waiting = ", ".join(_some([_waiting(task, count) for task, count in command.waiting]))
    one = count == 1
    lines = Counter(
        f"{_holder(holding.holder, title)} holds {_amounts(holding.amounts)}"
        for holding in command.holdings
    )
    holders = _some([line if n == 1 else f"{line} ({n} times)" for line, n in lines.items()])
    kinds = {type(holding.holder) for holding in command.holdings}
    advice: list[str] = []
    if SupervisedActor in kinds:
        advice.append("end an actor that is no longer needed, by kill() or with its last handle")
    if Group in kinds:
        advice.append("remove a placement group with remove_placement_group()")
    if kinds - {SupervisedActor, Group}:
        advice.append(
            "ask for it only in tasks that use it, as one that waits for others gives back nothing "
            "but its CPUs"
        )
    if cls.group is None:
        options = [_OPTIONS.get(name, "resources") for name, _ in cls.demand]
        advice.append(f"give init() more {' and '.join(dict.fromkeys(options))}")
    else:
        advice.append(f"make the {title(cls.group)} with larger bundles")
    return (
        f"{waiting[0].upper()}{waiting[1:]} {'waits' if one else 'wait'} for "
        f"{_amounts(cls.demand)}{'' if one else ' each'}, and no task that ends will free that: "
        f"{'; '.join(holders)}. What to do: {', or '.join(advice)}."
    )


def _some(texts: list[str]) -> list[str]:
    return texts if len(texts) <= SHOWN else [*texts[:SHOWN], f"and {len(texts) - SHOWN} others"]


def _waiting(task: Task, count: int) -> str:
    if task.scheduling_class.reserves is not None:
        return printable(task.name)
    kind, name = "task", printable(task.name)
    if task.actor is not None:
        kind, name = "actor", _actor_name(task.actor)
    return f"{kind} {name}" if count == 1 else f"{count} {kind}s {name}"


def _holder(holder: SupervisedActor | Group | Task, title: Callable[[Group], str]) -> str:
    if isinstance(holder, SupervisedActor):
        return f"actor {_actor_name(holder)}"
    if isinstance(holder, Group):
        return title(holder)
    return f"task {printable(holder.name)}, which waits for others,"


def _actor_name(actor: SupervisedActor) -> str:
    description = actor.payload.description
    name = printable(description.class_name)
    return f"{name} named {printable(description.name)}" if description.name else name


def _amounts(demand: Demand) -> str:
    return str({name: amount / UNIT for name, amount in demand})
