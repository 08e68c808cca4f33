"""Which device serves whom, and when there is room although, or though not, the sum says so."""

from __future__ import annotations

import random

import pytest

from aioray.core.devices import UNIT, Devices

HALF, MOST = UNIT // 2, 6 * UNIT // 10


def devices(*free):
    return Devices({chr(ord("a") + index): amount for index, amount in enumerate(free)})


@pytest.mark.parametrize(
    ("free", "amount", "count"),
    [
        ((UNIT, UNIT, UNIT), UNIT, 3),
        ((UNIT, UNIT, UNIT), 2 * UNIT, 1),
        ((UNIT, HALF, HALF), 2 * UNIT, 0),
        ((HALF, HALF), UNIT, 0),
        ((HALF, HALF), MOST, 0),
        ((UNIT, HALF), MOST, 1),
        ((UNIT, HALF), HALF, 3),
        ((UNIT, UNIT), 3_000, 6),
        ((0, 0), 1, 0),
        ((), UNIT, 0),
    ],
)
def test_room_is_counted_device_by_device(free, amount, count):
    pool = devices(*free)
    assert pool.count(amount) == count
    assert pool.fits(amount) is (count > 0)
    for _ in range(count):
        pool.allocate(amount)
    assert pool.count(amount) == 0


def test_whole_devices_are_given_out_in_their_order():
    pool = devices(UNIT, HALF, UNIT, UNIT)
    assert pool.allocate(2 * UNIT) == (("a", UNIT), ("c", UNIT))
    assert pool.allocate(UNIT) == (("d", UNIT),)


def test_share_goes_to_the_fullest_device_that_has_room():
    pool = devices(UNIT, 4_000, 7_000)
    assert pool.allocate(HALF) == (("c", HALF),)
    assert pool.allocate(HALF) == (("a", HALF),)
    assert pool.allocate(2_000) == (("c", 2_000),)
    assert pool.allocate(2_000) == (("b", 2_000),)


def test_several_amounts_are_given_out_together_or_not_at_all():
    pool = devices(UNIT, UNIT)
    assert pool.allocate_all([HALF, UNIT, 0, HALF]) == [
        (("b", HALF),),
        (("a", UNIT),),
        (),
        (("b", HALF),),
    ]
    pool = devices(UNIT, UNIT)
    assert pool.allocate_all([MOST, MOST, MOST]) is None
    assert pool.free == {"a": UNIT, "b": UNIT}
    assert not pool.fits(MOST, MOST, MOST)
    assert pool.fits(MOST, MOST, 4_000)


def test_what_is_held_back_is_passed_over_until_it_is_let_go():
    pool = devices(UNIT, HALF)
    pool.hold_back(["a"])
    assert (pool.count(UNIT), pool.count(HALF)) == (0, 1)
    assert pool.fits(UNIT)
    assert pool.allocate(HALF) == (("b", HALF),)
    pool.hold_back(["b"])
    assert pool.count(1) == 0
    pool.let_go()
    assert pool.allocate(UNIT) == (("a", UNIT),)


def test_emptied_copy_keeps_only_what_it_is_told_and_begins_with_the_emptiest():
    pool = devices(UNIT, UNIT, UNIT)
    kept = pool.allocate(UNIT)
    pool.allocate(HALF)
    copy = pool.emptied([kept])
    assert list(copy.free.items()) == [("c", UNIT), ("b", UNIT), ("a", 0)]
    assert pool.free == {"a": 0, "b": HALF, "c": UNIT}


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_no_device_is_given_out_twice(seed):
    chance = random.Random(seed)
    pool, held = devices(*[UNIT] * 4), []
    for _ in range(200):
        amount = chance.choice((UNIT, 2 * UNIT, HALF, MOST, 1, 3_333))
        if pool.count(amount) and chance.random() < 0.6:
            shares = pool.allocate(amount)
            assert sum(share for _, share in shares) == amount
            assert len(dict(shares)) == max(1, amount // UNIT)
            held.append(shares)
        elif held:
            pool.give_back(held.pop(chance.randrange(len(held))))
        used = dict.fromkeys(pool.free, 0)
        for shares in held:
            for name, share in shares:
                used[name] += share
        assert all(pool.free[name] == UNIT - used[name] >= 0 for name in used)
