"""Runs simulated sessions from the command line: `python -m tests.simulate --tasks 1000000`."""
from __future__ import annotations
import random, sys, time, traceback
from .plan import draw
from .session import simulate
if __name__ == "__main__":
    a,b,n=map(int,sys.argv[1:4])
    total=0
    t=time.process_time()
    for seed in range(a,b):
        chance=random.Random(seed)
        plan=draw(chance,n)
        s=simulate(plan,chance)
        total+=len(s.witness.facts)
        if s.failed:
            print("== seed", seed)
            print("".join(traceback.format_exception(s.failed)[-3:])[:900])
    print(total, (time.process_time()-t)/total*1e6, "us each")
