"""The engine: one per event loop, with its workers.

Room: shell. Carries out what the core decides and reports what happens. `engine` puts it together
and serves as the API's client; `template` and `worker` hold the processes, `output` their printing,
`reports` turns failures into exceptions, `thread` runs an engine for scripts without a loop.
"""

from .engine import Engine

__all__ = ["Engine"]
