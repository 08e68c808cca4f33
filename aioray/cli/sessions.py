"""`aioray sessions`: which sessions there are and were.

Room: facade.
"""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command(name="sessions")
def command() -> None:
    """List the sessions of this machine, the newest first."""
