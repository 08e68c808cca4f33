"""Tells what goes on: records for the history, reports of deaths, snapshots, traces.

Room: engine.
"""
