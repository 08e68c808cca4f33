"""Engines whose tasks and actors run in the driver's own process: local mode, and what tests use.

Room: local. The real core decides, the driver's client takes the calls, and `aioray.worker`
executes them; only the processes, the pipes and the clock between are played here. Knows nothing of
the API.
"""
