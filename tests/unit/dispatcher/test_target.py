"""How a call begins on the wire: its request line, its host, its headers, and nothing that somebody else wrote."""

from __future__ import annotations

import pytest

from dispatcher.upstream.target import Origin, Uncallable, place, request_head


@pytest.mark.parametrize(
    ("url", "origin", "start"),
    [
        ("http://Backend", Origin("backend", 80, False), "POST /v1/embeddings HTTP/1.1\r\nHost: backend\r\n"),
        ("https://b:443/v1/", Origin("b", 443, True), "POST /v1/embeddings HTTP/1.1\r\nHost: b\r\n"),
        ("https://b.:8443/x?y=1", Origin("b.", 8443, True), "POST /x/embeddings?y=1 HTTP/1.1\r\nHost: b:8443\r\n"),
        ("http://[::1]:80", Origin("::1", 80, False), "POST /v1/embeddings HTTP/1.1\r\nHost: [::1]\r\n"),
        ("http://[2001:db8::1]:81/a%20b", Origin("2001:db8::1", 81, False),
         "POST /a%20b/embeddings HTTP/1.1\r\nHost: [2001:db8::1]:81\r\n"),
        ("http://b\u00fccher.example", Origin("xn--bcher-kva.example", 80, False),
         "POST /v1/embeddings HTTP/1.1\r\nHost: xn--bcher-kva.example\r\n"),
    ],
    ids=["a name", "the usual port", "a dot, a port and a query", "IPv6", "IPv6 with a port", "international"],
)  # fmt: skip
def test_an_address_gives_the_request_line_and_its_host(
    url: str, origin: Origin, start: str
) -> None:
    """RFC 9112, 3.2.1; RFC 9110, 7.2."""
    assert place(url, "embeddings") == (origin, start)


def test_a_head_is_what_its_headers_say_and_the_length() -> None:
    """In their order."""
    head = request_head(place("http://b", "x"), {"a": "1", "b": "2 3"}, 17)

    assert head == b"POST /v1/x HTTP/1.1\r\nHost: b\r\na: 1\r\nb: 2 3\r\nContent-Length: 17\r\n\r\n"


@pytest.mark.parametrize(
    "value", ["a\r\nx: y", "a\nx", "a\rx", "a\0", "\x7f", "\u2028", "caf\u00e9", "a\tb", "\u010d\u010a"]
)  # fmt: skip
def test_no_value_can_end_its_header(value: str) -> None:
    """Line ends, controls and what is not ASCII are refused; some letters end in the bytes of a line end."""
    with pytest.raises(Uncallable):
        request_head(place("http://b", "x"), {"x-request-id": value}, 1)
