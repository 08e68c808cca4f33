"""Starts, feeds and ends processes: the template, workers, and what is to be heard of them.

Room: engine.
"""
