"""What a user may say about retries beyond Ray's options: RetryPolicy.

Room: api. This is the public home of the class, `from aioray.retry import RetryPolicy`; the
class itself is pure and lives in aioray.core.retries, where the core reads it. Nothing is decided
here, and nothing else belongs here but names that users import.

    @remote(max_retries=5, retry_exceptions=True, retry=RetryPolicy(initial_delay=0.5))
    def fetch(url): ...
"""

from aioray.core.retries import RetryPolicy

__all__ = ["RetryPolicy"]
