"""Tests of what driver and workers have in common."""
