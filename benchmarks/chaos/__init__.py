"""Chaos on real processes: much work of all kinds, and a saboteur. `python -m benchmarks chaos`.

Three processes play. The *driver* (`driver`, with `work` and `actors`) submits items of work, each
a call or some calls whose value or error is known beforehand, and enters in a ledger what came of
them. The *saboteur* (`saboteur`) kills, stops and starves the driver, its template and its workers
meanwhile, fills their disk and takes away their descriptors. It lives in the process of the *judge*
(`judge`), who has started the driver, and at the end compares both accounts: each death that the
driver was told of must be a blow of the saboteur's, and nothing may be left of the driver.

Which items there are and which blows, in which order and against whom, comes from the seed
(`plan`); when exactly something is struck is up to the machine. `ledger` prints.
"""
