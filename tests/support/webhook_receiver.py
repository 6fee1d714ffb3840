"""A receiver of webhooks as others write them: it verifies with the public library of Standard Webhooks and keeps what it got."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(frozen=True)
class Delivery:
    """One call of it."""

    path: str
    message_id: str
    headers: dict[str, str]
    body: bytes
    at_s: float
    status: int
    """What it answered."""
    told: dict[str, Any] | None = None
    """What the public library verified when it came, with the receiver's own secret; it refuses what is old by then."""

    def verified(self, secret: str) -> dict[str, Any] | None:
        """The body, by the public library; ``None`` for what was not signed with the secret."""
        with suppress(WebhookVerificationError):
            told: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
            return told
        return None


@dataclass
class WebhookReceiver:
    """What was delivered, and how the next is answered."""

    url: str
    secret: str | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    answer: Callable[[str], int] = lambda _: 204
    """Path to status; 0 hangs until the other side gives up."""

    def at(self, path: str) -> list[Delivery]:
        """What was delivered to a path."""
        return [each for each in list(self.deliveries) if each.path == path]

    def taken(self, path: str) -> list[Delivery]:
        """What it took of that."""
        return [each for each in self.at(path) if each.status in range(200, 300)]

    def until_taken(self, path: str, count: int, within_s: float) -> list[Delivery]:
        """What it took at a path, once these are so many messages, or all there are after that time."""
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            if len({each.message_id for each in self.taken(path)}) >= count:
                break
            time.sleep(0.05)
        return self.taken(path)


@contextmanager
def webhook_receiver(port: int = 0) -> Iterator[WebhookReceiver]:
    """A receiver on the loopback address, in threads of this process."""
    receiver = WebhookReceiver("")

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            path = self.path.partition("?")[0]
            status = receiver.answer(path)
            message_id = headers.get("webhook-id", "")
            delivery = Delivery(path, message_id, headers, body, time.time(), status)
            if receiver.secret is not None:
                delivery = replace(delivery, told=delivery.verified(receiver.secret))
            receiver.deliveries.append(delivery)
            if status == 0:
                self.rfile.read(1)  # Until the other side gives up.
                return
            self.send_response(status)
            if status in range(300, 400):
                self.send_header("location", f"{receiver.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class _Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 128

    server = _Server(("127.0.0.1", port), _Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
