"""Tests of the worker's parts, driven by hand: no engine."""
