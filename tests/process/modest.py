"""Functions and classes for workers that load what they run, and nothing that decorates."""

from __future__ import annotations

import sys


def loaded(_given=()):
    """What this process has imported."""
    return sorted(sys.modules)


def loaded_after_a_nested_task(remotes):
    import aioray

    (leaf,) = remotes
    aioray.get([leaf.remote(), leaf.remote(aioray.put(1))])
    return loaded()


def loaded_after_a_nested_actor(remotes):
    import aioray

    (cls,) = remotes
    aioray.get(cls.remote().loaded.remote())
    return loaded()


def loaded_after_a_call(actors):
    import aioray

    (actor,) = actors
    aioray.get(actor.loaded.remote())
    return loaded()


def loaded_after_options(remotes):
    import aioray

    (leaf,) = remotes
    aioray.get(leaf.options(num_cpus=0).remote())
    return loaded()


def leaf(_value=None):
    """Do nothing."""


class Actor:
    """One whose calls run one after the other."""

    def loaded(self):
        return loaded()


class AsyncActor:
    """One on an event loop."""

    async def loaded(self):
        return loaded()
