"""A module that is preloaded: what its template imports when it has time cannot be loaded."""

from aioray.worker import template

template.LATER = ("tests.process.scarce_later",)
