"""What workers ask of the driver: a question survives the pipe, and nothing else gets through."""

from __future__ import annotations

import marshal
from typing import Any, get_type_hints

import pytest

from aioray.shared import asks

WHOLE = {
    asks.Submit: (1, b"definition", b"label", 3, b"", [b"id"], [("a", "b")], ("where", "text")),
    asks.Get: ([b"id"], True, False),
    asks.Put: (b"id", b"value", ("where", "text")),
    asks.Wait: ([b"id"], 1, True, True),
    asks.CallActor: (b"id", b"definition", b"label", b"", [], (), None),
    asks.CreateActor: (1, b"definition", b"label", b"", [], (), None),
    asks.DefineFunction: (1, "name", b"code", [b"id"]),
    asks.UnloadFunction: (1,),
    asks.Cancel: (b"id", True, False, 0.5),
    asks.Stop: (b"id", 0.5),
    asks.Log: ({"name": "root", "levelno": 30},),
    asks.CheckPlacement: (b"definition",),
    asks.Info: ("nodes",),
    asks.UseKeyValues: ("put", b"space", b"key", b"value", True),
    asks.Allocate: (100_000, 0),
    asks.Pin: (b"id",),
    asks.Lose: (b"id",),
    asks.TellOfMap: (b"task", "FAILED", [3, 1, 1, 1, 0], ["WORKER_DIED", "why"]),
    asks.AnswerNow: (1,),
    asks.Forget: (1,),
    asks.MayYield: (2,),
    asks.ItemsRead: (b"id", 2),
    asks.AbandonStream: (b"id",),
    asks.AddGroup: (b"id", [], "PACK", "name", b"value"),
    asks.RemoveGroup: (b"id",),
    asks.GroupReady: (b"id",),
    asks.KillActor: (b"id", True),
    asks.GetActor: ("name", None),
    asks.PendingCalls: (b"id",),
}


def packed(kind: Any, arguments: tuple[Any, ...], request: Any = 7) -> bytes:
    return marshal.dumps((request, asks.ASKS.index(kind), arguments))


def test_every_question_is_tested_here() -> None:
    assert set(WHOLE) == set(asks.ASKS)


@pytest.mark.parametrize("kind", asks.ASKS)
def test_question_arrives_as_it_was_sent(kind: Any) -> None:
    request, ask = asks.unpack(asks.pack(7, kind(*WHOLE[kind])))
    assert (request, type(ask), ask) == (7, kind, WHOLE[kind])


@pytest.mark.parametrize("kind", asks.ASKS)
def test_question_with_an_argument_too_few_or_too_many_is_refused(kind: Any) -> None:
    for arguments in (WHOLE[kind][:-1], (*WHOLE[kind], None)):
        with pytest.raises(ValueError, match=f"of the kind {kind.__name__} with"):
            asks.unpack(packed(kind, arguments))


@pytest.mark.parametrize("kind", asks.ASKS)
def test_argument_of_another_type_is_refused_whichever_it_is(kind: Any) -> None:
    for at in range(len(WHOLE[kind])):
        arguments = (*WHOLE[kind][:at], frozenset(), *WHOLE[kind][at + 1 :])
        with pytest.raises(ValueError, match=f"of the kind {kind.__name__} with"):
            asks.unpack(packed(kind, arguments))


@pytest.mark.parametrize("kind", asks.ASKS)
def test_no_argument_may_be_just_anything(kind: Any) -> None:
    assert Any not in get_type_hints(kind).values()


@pytest.mark.parametrize("grace", [None, 1, 0.5])
def test_seconds_may_be_whole_or_left_out(grace: Any) -> None:
    ask = asks.Cancel(b"id", force=False, recursive=False, grace=grace)
    assert asks.unpack(asks.pack(1, ask)) == (1, ask)


@pytest.mark.parametrize("verb", [-1, len(asks.ASKS), 1 << 70])
def test_unknown_question_is_refused(verb: int) -> None:
    with pytest.raises(ValueError, match=f"of the kind {verb}, which there is not"):
        asks.unpack(marshal.dumps((1, verb, (b"id",))))


@pytest.mark.parametrize(
    "said", [("1", 0, ()), (1, "0", ()), (1, 0, []), (1, 0), [1, 0, ()], 5, None]
)
def test_what_is_no_question_is_refused(said: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        asks.unpack(marshal.dumps(said))
