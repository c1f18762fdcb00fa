"""API keys and their rights: authenticates credentials that handlers took from a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may do.

    Attributes:
        name: Who it is, for logs; never the key.
        read_only: Whether it may change nothing: no send, no stage, no shutdown.
        channels: The channels it may use, or None for all.
    """

    name: str = ""
    read_only: bool = False
    channels: frozenset[str] | None = None

    def may_read(self, channel: str) -> bool:
        """Whether it may see a channel."""
        return self.channels is None or channel in self.channels

    def may_send(self, channel: str) -> bool:
        """Whether it may tick a channel."""
        return not self.read_only and self.may_read(channel)

    @property
    def is_limited(self) -> bool:
        """Whether it may see some channels only."""
        return self.channels is not None


EVERYTHING: Final = Rights()


@dataclass(frozen=True, slots=True)
class Credential:
    """A key and the rights that it gives."""

    key: str
    rights: Rights


class Access:
    """The keys of a gateway.

    Args:
        credentials: The valid keys; none at all leaves everything open.
        equal: Compares two secrets in constant time.
        trusted_networks: Callers from these addresses need no key.
    """

    def __init__(
        self,
        credentials: Iterable[Credential],
        equal: Callable[[str, str], bool],
        trusted_networks: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        self._credentials = list(credentials)
        self._equal = equal
        self._trusted = list(trusted_networks)

    @property
    def is_open(self) -> bool:
        """Whether no key is needed."""
        return not self._credentials

    def replace(self, other: Access) -> None:
        """Take over the keys of another one; who is connected already stays connected."""
        self._credentials, self._trusted = other._credentials, other._trusted

    def identify(self, candidates: Iterable[str], address: str | None = None) -> Rights | None:
        """The rights of the first candidate that is a valid key; a wrong one does not veto a right one.

        Args:
            candidates: What was found in the query, the header, the cookie.
            address: Where the caller is.

        Returns:
            The rights, or None when no candidate is valid.
        """
        if not self._credentials:
            return EVERYTHING
        found: Rights | None = None
        for candidate in candidates:
            if found is not None:
                continue
            for credential in self._credentials:
                if self._equal(candidate, credential.key):
                    found = credential.rights
        if found is None and self._trusts(address):
            return EVERYTHING
        return found

    @property
    def anonymous(self) -> Rights:
        """The rights of a caller without a valid key in public documents: the channels that every key may use."""
        limits = [each.rights.channels for each in self._credentials if each.rights.channels is not None]
        return Rights(read_only=True, channels=frozenset.intersection(*limits) if limits else None)

    def is_valid(self, key: str | None) -> bool:
        """Whether a text is one of the keys."""
        return key is not None and self.identify([key]) is not None

    def _trusts(self, address: str | None) -> bool:
        if not self._trusted or address is None:
            return False
        try:
            where = ip_address(address)
        except ValueError:
            return False
        return any(where in network for network in self._trusted)
