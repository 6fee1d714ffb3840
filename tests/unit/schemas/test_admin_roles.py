"""What a certificate is called, and who has which role."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.admin_roles import Role, identity_of, read_roles


def certificate(*names: tuple[str, str], cn: tuple[str, ...] = ()) -> dict[str, Any]:
    """As ``ssl`` shows it."""
    shown: dict[str, Any] = {"subject": tuple((("commonName", name),) for name in cn)}
    return shown | ({"subjectAltName": names} if names else {})


@pytest.mark.parametrize(
    ("shown", "identity"),
    [
        (certificate(("URI", "spiffe://a/b"), ("DNS", "a.b"), cn=("c",)), "uri:spiffe://a/b"),
        (certificate(("DNS", "A.Example"), ("DNS", "a.example"), cn=("c",)), "dns:a.example"),
        (certificate(("IP Address", "127.0.0.1"), cn=("Alice Smith",)), "cn:Alice Smith"),
        (certificate(("URI", "spiffe://a/b"), ("URI", "spiffe://a/c")), None),
        (certificate(("DNS", "a.b"), ("DNS", "c.d"), cn=("c",)), None),
        (certificate(cn=("a", "b")), None),
        (certificate(cn=("a\nb",)), None),
        (certificate(cn=("ü",)), None),
        (certificate(cn=(" a",)), None),
        (certificate(cn=("",)), None),
        (certificate(cn=("a" * 201,)), None),
        (certificate(("email", "a@b.c")), None),
        ({}, None),
    ],
)
def test_a_certificate_has_the_one_name_of_its_first_kind(
    shown: dict[str, Any], identity: str | None
) -> None:
    """URI, DNS, common name; two of a kind, or what no line can hold, is nobody."""
    assert identity_of(shown) == identity


def test_names_of_different_kinds_are_different_identities() -> None:
    """Who may choose a common name gets no role of a URI."""
    assert identity_of(certificate(cn=("uri:spiffe://a/b",))) == "cn:uri:spiffe://a/b"


def test_a_file_gives_each_identity_its_role() -> None:
    """Blank lines and those with a # in front say nothing."""
    text = "# who\n\nowner  uri:spiffe://a/alice\nviewer\tdns:x\n  finance cn:Bob B. #2\n"

    assert dict(read_roles(text.replace("\t", " "))) == {
        "uri:spiffe://a/alice": Role.OWNER,
        "dns:x": Role.VIEWER,
        "cn:Bob B. #2": Role.FINANCE,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "nobody"),
        ("# owner cn:a", "nobody"),
        ("owner cn:a\nroot cn:b", "line 2: 'root' is none of viewer, operator, finance, owner"),
        ("owner", "line 1: '' is no uri:"),
        ("owner alice", "line 1: 'alice' is no uri:"),
        ("owner cn:a\nviewer cn:a", "line 2: cn:a has a role already"),
        ("Owner cn:a", "line 1: 'Owner'"),
    ],
)
def test_a_file_that_cannot_be_understood_names_the_line(text: str, problem: str) -> None:
    """Nothing of it counts."""
    with pytest.raises(ValueError, match=problem):
        read_roles(text)
