"""Tests of the engine's parts, each by itself: no worker, and a loop only where one is needed."""
