"""Tests with real worker processes: what no fake can show."""
