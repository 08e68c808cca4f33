"""Tests of the asyncio shell: a real event loop and a real core, fake workers, virtual time."""
