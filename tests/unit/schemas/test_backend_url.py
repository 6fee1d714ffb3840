"""Addresses of backends are refused where they are configured, by the parser that calls them later."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from schemas.backend_url import URL_CHARS_MAX, operation_url, url_problem
from schemas.entities import Backend

GOOD = (
    "http://127.0.0.1:9201/v1",
    "http://localhost",
    "https://api.example.com/v1/",
    "https://api.example.com./openai/deployments/x?api-version=2024-06-01",
    "http://mock-a:9201/v1",
    "http://3com:80",
    "http://under_score.example/%7Euser",
    "http://[::1]:8000/v1",
    "http://[::ffff:1.2.3.4]/v1",
    "http://\N{LATIN SMALL LETTER U WITH DIAERESIS}ber.example/v1",
)
BAD = (
    "",
    "http://",
    "http:///v1",
    "http:/h",
    "http:h",
    "//h/v1",
    "ftp://h/v1",
    "http://:80",
    "http://[::1/v1",
    "http://::1]/v1",
    "http://[]/v1",
    "http://[::1]x/v1",
    "http://[v1.x]/v1",
    "http://[fe80::1%25eth0]/v1",
    "http://[12345::1]/v1",
    "http://h:/v1",
    "http://h:0/v1",
    "http://h:65536/v1",
    "http://h:99999999999999999999/v1",
    "http://h:http/v1",
    "http://h:-1/v1",
    "http://h:\N{FULLWIDTH DIGIT EIGHT}0/v1",
    "http://user:secret@h/v1",
    "http://@h/v1",
    "http://a b/v1",
    "http://h/a b",
    "http://h/v1\n",
    "http://h/v1\x00",
    "http://h\t/v1",
    "http://h/\x1b[31m",
    "http://h/\N{RIGHT-TO-LEFT OVERRIDE}v1",
    "http://a\N{ZERO WIDTH JOINER}b/v1",
    "http://h/v1#x",
    "http://h#",
    "http:\\\\h\\v1",
    "http://h\\@x/v1",
    "http://h/%",
    "http://h/%zz",
    "http://h%41/v1",
    "http://h;x/v1",
    "http://*/v1",
    "http://-h/v1",
    "http://a..b/v1",
    "http://./v1",
    "http://\N{LATIN SMALL LETTER U WITH DIAERESIS}..example/v1",
    "http://" + "a" * 64 + ".example/v1",
    "http://" + "a." * 127 + "example/v1",
    "http://256.1.1.1/v1",
    "http://1.2.3/v1",
    "http://0x7f/v1",
    "http://h/" + "a" * URL_CHARS_MAX,
)


@pytest.mark.parametrize("url", GOOD)
def test_a_usable_address_is_taken(url: str) -> None:
    """As a backend, too."""
    assert url_problem(url) is None
    assert Backend(url=url).url == url


@pytest.mark.parametrize("url", BAD)
def test_an_address_that_no_caller_could_use_is_refused(url: str) -> None:
    """With a reason that fits on a line."""
    problem = url_problem(url)

    assert problem is not None
    assert problem.isprintable()
    assert len(problem) < 300
    with pytest.raises(ValueError, match=r"."):
        Backend(url=url)


_LOOP = asyncio.new_event_loop()
_LOOP.close()
_PIECES = st.sampled_from(
    [*"htp:/[]@#?%\\ .-_0159afxz\x00\x7f\n", "http://", "https://", "::1", "[::1]", ":80", "xn--",
     "127.0.0.1", "\N{SNOWMAN}", "\N{FULLWIDTH DIGIT EIGHT}", "\N{CARE OF}", "\N{ZERO WIDTH JOINER}"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=12).map("".join), st.booleans())
@example("[::1/v1", True)
@example("[::1]@", True)
def test_what_is_taken_can_be_called(text: str, has_scheme: bool) -> None:
    """By the very library, under the path that is really called; nothing else ever raises."""
    url = f"http://{text}" if has_scheme else text
    if url_problem(url) is not None:
        return
    for called in (url, operation_url(url, "chat/completions"), operation_url(url, "models")):
        parsed = URL(called)
        assert parsed.port is not None
        assert 0 < parsed.port < 65_536
        assert aiohttp.ClientRequest("GET", parsed, loop=_LOOP).host == parsed.raw_host


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("http://h:1", "http://h:1/v1/models"),
        ("http://h:1/", "http://h:1/v1/models"),
        ("http://h:1/v1", "http://h:1/v1/models"),
        ("https://h/openai/v1/", "https://h/openai/v1/models"),
        ("https://h?key=a/b", "https://h/v1/models?key=a/b"),
        ("https://h/x/?api-version=2024-06-01", "https://h/x/models?api-version=2024-06-01"),
    ],
)
def test_the_path_of_an_operation_stands_before_the_query(url: str, called: str) -> None:
    """The address is what ``OPENAI_BASE_URL`` would be; ``/v1`` is added to a bare host."""
    assert operation_url(url, "models") == called


@pytest.mark.parametrize("url", ["http://h/v1#x", "http://h#", "http://h/v1?a=1#b"])
def test_a_fragment_is_refused_with_the_reason(url: str) -> None:
    """It would never be sent."""
    assert url_problem(url) == "a url has no fragment (#)"
