"""Which web pages may act through a visitor's browser.

A browser sends requests of any page to any address, this machine's own included. What a page of another origin may
read is the browser's business (CORS); that it changes nothing is decided here. Programs that are no browsers send
none of the headers that this module looks at.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit


class Origins:
    """The origins whose pages may act: the daemon's own, and the configured ones.

    Args:
        allowed: Configured origins, such as ``https://prices.example``; ``*`` is every origin.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(origin.rstrip("/") for origin in allowed)

    @property
    def are_all_allowed(self) -> bool:
        """Whether pages of every origin may act."""
        return "*" in self.allowed

    def may_act(self, origin: str | None, fetch_site: str | None, host: str) -> bool:
        """Whether a request that changes something comes from a page that may send it, or from no page at all.

        Args:
            origin: The header ``Origin``.
            fetch_site: The header ``Sec-Fetch-Site``: what the browser knows about page and address, also behind a
                proxy that changes the host.
            host: The header ``Host``.
        """
        if self.are_all_allowed or (origin is not None and origin in self.allowed):
            return True
        if fetch_site is not None:
            return fetch_site in ("same-origin", "none")
        return origin is None or _host_of(origin) == host.lower()


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
