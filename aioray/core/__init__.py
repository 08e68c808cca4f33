"""The core: decides what happens to tasks and workers, and does nothing itself.

Room: core. Pure: no I/O, no clock, no asyncio, no randomness of its own. `Scheduler.handle(event,
now)` takes one fact and returns the orders that follow from it; `next_deadline()` says when the
next `TimerFired` is due. Everything here can be replayed in a test without a process.

`events` holds the facts, `commands` the orders, `outcomes` what becomes of things, `model` the
records and `states` where they stand; the parts that decide are built and joined by `scheduler`.
"""
