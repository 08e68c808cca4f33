"""One contestant in a process: requests come on stdin, a JSON object a line, answers go to stdout.

`python -m benchmarks.child NAME WORKERS DIRECTORY`. The first line that it writes says whether the
contestant can be had here. A request names an operation and its arguments; the answer has its
result, or the error. Whatever libraries and workers print goes to stderr. The end of stdin is the
end. Imports are absolute because some libraries load this file again in their workers, outside of
its package.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.contestants import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.contestants.base import Contestant


def main(name: str, workers: int, directory: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**answer: object) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        contestant = load(name)(workers, directory)
    except ImportError as error:
        say(missing=str(error))
        return
    contestant.run(serve(contestant, say))


async def serve(contestant: Contestant, say: Callable[..., None]) -> None:
    """Start the contestant, answer requests, end it. Waiting for a request blocks its loop."""
    try:
        await settled(contestant.open())
        await settled(contestant.warm_up())
        say(version=contestant.version())
        for line in sys.stdin:
            request = json.loads(line)
            try:
                operation = getattr(contestant, request["operation"])
                result = await settled(operation(**request["arguments"]))
            except Exception as error:  # noqa: BLE001  # it is the asking side that decides
                say(error=f"{type(error).__name__}: {error}")
            else:
                say(result=result)
    finally:
        await settled(contestant.close())


async def settled(result: Any) -> Any:
    """The result of an operation, which some contestants have as a coroutine."""
    return await result if inspect.isawaitable(result) else result


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
