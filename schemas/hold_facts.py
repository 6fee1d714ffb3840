"""What the ledger keeps beside a hold, so that whoever finds it alone can write an outcome, and tell its
client. Pure."""

from __future__ import annotations

import msgspec

from schemas.attribution import Attribution, found_by
from schemas.events import RecordRef, RequestAccepted


class HoldFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Facts of a request that its hold does not carry; never its content."""

    key_id: str
    project: str | None = None
    user: str | None = None
    route: str
    model: str
    input_tokens_bound: int
    output_tokens_bound: int
    parent: RecordRef
    reply_to: str | None = None
    """Where its client waits for frames."""
    keep_result: bool = False
    """Whether its end is looked up later."""
    idempotency_hash: str | None = None
    fingerprint: str | None = None
    job: str | None = None
    batch_id: str | None = None
    batch_line: int | None = None

    def encoded(self) -> str:
        """As kept in the ledger."""
        return msgspec.json.encode(self).decode()

    def attribution(self, org: str, request_id: str) -> Attribution:
        """Whose request it is; the ledger names organization and request beside the facts."""
        return Attribution(
            request_id=request_id,
            org=org,
            project=self.project,
            key_id=self.key_id,
            user=self.user,
            route=self.route,
            model=self.model,
            batch_id=self.batch_id,
            batch_line=self.batch_line,
        )

    @classmethod
    def decoded(cls, info: str) -> HoldFacts:
        """From the ledger; ``msgspec.DecodeError`` when it is none of ours."""
        return msgspec.json.decode(info, type=cls)


def info_of(request: RequestAccepted, parent: RecordRef) -> HoldFacts:
    """What to keep of the request."""
    return HoldFacts(
        key_id=request.key_id,
        project=request.project,
        user=request.user,
        route=request.route,
        model=request.model,
        input_tokens_bound=request.input_tokens_bound,
        output_tokens_bound=request.output_tokens_bound,
        parent=parent,
        reply_to=request.reply_to,
        keep_result=request.keep_result,
        batch_id=request.batch_id,
        batch_line=request.batch_line,
        **found_by(request),
    )
