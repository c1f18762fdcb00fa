"""The two ways in which a daemon says that something is wrong, on purpose.

Everything else that is raised is a bug, and the error middleware answers it as one.
"""

from __future__ import annotations

from collections.abc import Mapping


class StartupError(Exception):
    """The daemon cannot start or cannot go on; the text is the one line that the operator reads (exit code 1)."""


class Problem(Exception):  # noqa: N818 - an answer, not a failure of the program
    """An answer other than success, to be encoded in the daemon's own error shape.

    Attributes:
        status: HTTP status code, 400 to 599.
        message: What the client reads: names the field, what was found and what was expected.
        code: Short machine-readable word, for the protocols that have one.
        headers: Further response headers, such as ``Retry-After``.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})
