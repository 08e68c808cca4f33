"""Tests of what makes aioray pass for Ray."""
