"""What a backend's failed call is called: every way to fail is one ``UpstreamFailure``. Pure."""

from __future__ import annotations

from typing import Final

from dispatcher.upstream.backend_words import NO_WORDS, BackendWords
from schemas.errors import ErrorCode
from schemas.failures import Failure

_OWN_FAULT: Final = frozenset({401, 403, 407})
"""A backend that refuses our credentials: nothing the client can change."""
_ABOUT_OUR_KEY: Final = frozenset({401, 407})
"""What it says of them is for nobody but us."""
_OVERLOADED: Final = 529
"""Of Anthropic's protocol: the backend is full."""
_TRY_ELSEWHERE: Final = frozenset({408, 425, _OVERLOADED})
_RATE_LIMITED: Final = 429
_BAD_REQUEST: Final = 400
"""Also what OpenAI answers to a request that is longer than the model's context."""


class UpstreamFailure(Failure):
    """A call that gave no completion.

    ``what`` happened is for our logs: kinds, statuses and sizes, no text of a backend, no host. ``words``
    are the backend's own for the client. ``may_have_spent``: whether the backend may have worked before it
    failed. ``retryable``: whether another backend may succeed. ``is_backends_fault``: whether it speaks against the
    backend; an answer that we cannot read, or that is more than we take, does not. ``is_cut``: whether a kept connection ended before
    any answer, so that the same backend may be asked again on a fresh one. ``said`` is the body of a refusal,
    as far as it was read.
    """

    def __init__(
        self,
        code: ErrorCode,
        what: str,
        *,
        may_have_spent: bool,
        retryable: bool = True,
        is_backends_fault: bool = True,
        is_cut: bool = False,
        words: BackendWords = NO_WORDS,
        upstream_status: int | None = None,
        retry_after_ms: int | None = None,
        said: bytes = b"",
    ) -> None:
        super().__init__(what)
        self.code = code
        self.words = words
        self.may_have_spent = may_have_spent
        self.retryable = retryable
        self.is_backends_fault = is_backends_fault
        self.is_cut = is_cut
        self.upstream_status = upstream_status
        self.retry_after_ms = retry_after_ms
        self.said = said

    @property
    def client_message(self) -> str | None:
        """What the client is told: the backend's words, else its status."""
        if self.words.message is None and self.upstream_status not in {None, 200}:
            return f"the backend answered {self.upstream_status}"
        return self.words.message


def refusal(
    status: int | None,
    what: str,
    words: BackendWords,
    retry_after_ms: int | None = None,
    said: bytes = b"",
) -> UpstreamFailure:
    """A status other than 200 in our terms; ``None`` is none of HTTP. It cannot have spent."""
    if status == _RATE_LIMITED or status in _TRY_ELSEWHERE:
        is_limit = status == _RATE_LIMITED
        return UpstreamFailure(
            ErrorCode.UPSTREAM_RATE_LIMITED if is_limit else ErrorCode.OVERLOADED,
            what,
            may_have_spent=False,
            words=words,
            upstream_status=status,
            retry_after_ms=retry_after_ms,
        )
    client_fault = status is not None and 400 <= status < 500 and status not in _OWN_FAULT  # noqa: PLR2004  # HTTP 4xx
    return UpstreamFailure(
        ErrorCode.UPSTREAM_REJECTED if client_fault else ErrorCode.UPSTREAM_ERROR,
        what,
        may_have_spent=False,
        retryable=not client_fault,
        words=NO_WORDS if status in _ABOUT_OUR_KEY else words,
        upstream_status=status,
        said=said,
    )


def error_in_answer(words: BackendWords, *, has_begun: bool) -> UpstreamFailure:
    """An error in an answer whose status is 200: before anything else it is what its own status says.

    Once output has come, the backend has worked; where it names no status, it may have.
    """
    what = "an error with status 200"
    if has_begun:
        code = ErrorCode.UPSTREAM_INTERRUPTED
        return UpstreamFailure(code, what, may_have_spent=True, words=words, upstream_status=200)
    status = words.status or (_BAD_REQUEST if words.is_overflow else None)
    if status is not None and (status < 500 or status == _OVERLOADED):  # noqa: PLR2004  # HTTP 4xx
        return refusal(status, what, words)
    code = ErrorCode.UPSTREAM_ERROR
    return UpstreamFailure(code, what, may_have_spent=True, words=words, upstream_status=200)


def unaskable(what: str, param: str) -> UpstreamFailure:
    """A request that this backend's protocol cannot ask: nothing was called, and another backend may take it."""
    return UpstreamFailure(
        ErrorCode.UPSTREAM_REJECTED,
        what,
        may_have_spent=False,
        is_backends_fault=False,
        words=BackendWords(what, param=param, type="invalid_request_error"),
        upstream_status=_BAD_REQUEST,
    )


def unreadable(what: str, words: BackendWords = NO_WORDS) -> UpstreamFailure:
    """An answer that cannot be read, or is beyond our bounds: the backend worked, and is not at fault."""
    code = ErrorCode.UPSTREAM_ERROR
    return UpstreamFailure(code, what, may_have_spent=True, is_backends_fault=False, words=words)


def stream_without_end(words: BackendWords) -> UpstreamFailure:
    """A stream that ended though its answer had not."""
    code = ErrorCode.UPSTREAM_INTERRUPTED
    return UpstreamFailure(code, "a stream without end", may_have_spent=True, words=words)
