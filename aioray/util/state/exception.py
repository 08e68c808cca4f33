"""The errors of the state API.

Room: api.
"""

from __future__ import annotations

__all__ = ["DataSourceUnavailable", "RayStateApiException", "ServerUnavailable"]


class RayStateApiException(Exception):  # noqa: N818 - Ray's name
    """The state API could not answer: a filter, id or limit is wrong, or there is no session.

    Not raised for a filter that is no triple of column, predicate and value: that is a ValueError.
    """


class ServerUnavailable(RayStateApiException, ConnectionError):  # noqa: N818 - Ray's name
    """There is no session to ask, or it does not answer. The text says what to do."""


class DataSourceUnavailable(Exception):  # noqa: N818 - Ray's name
    """A part of a cluster does not answer. Never raised: here is one machine."""
