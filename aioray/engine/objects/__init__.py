"""Keeps values: the store in shared memory, files of what has no room, streams, lineage.

Room: engine.
"""
