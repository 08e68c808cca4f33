"""Tests of the pure core: no processes, no loop, and time is a number."""
