"""Signs requests as a client does, from the published description alone."""

from __future__ import annotations

import hashlib
import hmac


def signed(
    secret: str, method: str, target: str, body: bytes, at_s: int, version: str = "v1"
) -> dict[str, str]:
    """The two headers."""
    text = f"v1:{at_s}:{method}:{target}:{hashlib.sha256(body).hexdigest()}"
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return {"X-Tallygate-Timestamp": str(at_s), "X-Tallygate-Signature": f"{version}={digest}"}
