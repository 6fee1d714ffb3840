"""What parts of messages count as: texts as bytes, media as what their model states (faults C14)."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.apis.openai.chat import read_call
from ingress.apis.openai.parts import TEXTS
from ingress.apis.parsed_request import Call
from ingress.http.refusals import Refusal
from schemas.entities import Model, Target

BACKENDS: Final = (Target(backend="b"),)
SEEING: Final = Model(
    backends=BACKENDS,
    image_tokens=1_500,
    audio_tokens=3_000,
    file_tokens=20_000,
    input_usd_per_mtok="2.5",
    output_usd_per_mtok="10",
)
_BYTES: Final = base64.b64encode(bytes(range(256)) * 1_200).decode()
PICTURE: Final = f"data:image/png;base64,{_BYTES}"
"""300 kB, as issue threads of vision models have them."""


def _image(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def _asking(*parts: dict[str, Any], model: Model = SEEING) -> Call | Refusal:
    fields = {
        "model": "m",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": list(parts)}],
    }
    return read_call(fields, model)


def _bound(*parts: dict[str, Any]) -> int:
    call = _asking(*parts)
    assert isinstance(call, Call)
    return call.input_tokens_bound


@pytest.mark.parametrize(
    ("part", "most"),
    [
        (_image(PICTURE), 1_500),
        (_image(PICTURE, detail="high"), 1_500),
        (_image(PICTURE.replace("png", "svg+xml;charset=utf-8")), 1_500),
        (_image(PICTURE.replace("data:image/png", "DATA:IMAGE/PNG")), 1_500),
        (_image("https://example.org/" + "a" * 4_000), 1_500),
        ({"type": "image_url", "image_url": PICTURE}, 1_500),
        ({"type": "input_image", "image_url": PICTURE, "detail": "low"}, 1_500),
        ({"type": "input_audio", "input_audio": {"data": _BYTES, "format": "wav"}}, 3_000),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{_BYTES}"}}, 20_000),
        ({"type": "input_file", "file_data": f"data:application/pdf;base64,{_BYTES}"}, 20_000),
        ({"type": "file", "file": {"file_id": "file-abc"}}, 20_000),
    ],
)
def test_a_medium_counts_as_its_model_states(part: dict[str, Any], most: int) -> None:
    """Whatever its size: no tokenizer reads what carries it."""
    asked = {"type": "text", "text": "what is this?"}

    assert _bound(asked) + most <= _bound(asked, part) < _bound(asked) + most + 200


def test_a_picture_of_300_kb_fits_a_budget_of_ten_cents() -> None:
    """At 2.5 USD per million tokens of input; its bytes alone would be 1.00 USD."""
    bound = _bound({"type": "text", "text": "what is this?"}, _image(PICTURE))

    assert len(PICTURE) > 400_000
    assert bound * 2.5 / 1e6 + 50 * 10 / 1e6 < 0.10


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": PICTURE},
        {"type": "text", "text": "look", "image_url": {"url": PICTURE}},
        _image("look at this: " + PICTURE),
        _image("data:text/plain;base64," + _BYTES),
        _image("data:image/svg+xml," + _BYTES),
        _image(_BYTES),
        _image("https://example.org/a.png", alt=PICTURE),
        {"type": "input_audio", "input_audio": {"data": "hello " + _BYTES}},
        {"type": "file", "file": {"filename": _BYTES}},
    ],
)
def test_what_only_stands_in_a_part_counts_as_its_bytes(part: dict[str, Any]) -> None:
    """A data URL in a text is text, and what is no picture may be read as one."""
    assert _bound(part) > len(_BYTES)


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_a_text_needs_no_bound_of_its_own(kind: str) -> None:
    """Also the thoughts that a client sends back as they came (faults C4)."""
    assert isinstance(_asking({"type": kind, kind: "hm"}, model=Model(backends=BACKENDS)), Call)


@pytest.mark.parametrize(
    ("part", "needs"),
    [
        (_image(PICTURE), "image_tokens"),
        ({"type": "input_audio", "input_audio": {"data": _BYTES}}, "audio_tokens"),
        ({"type": "file", "file": {"file_id": "f"}}, "file_tokens"),
    ],
)
def test_a_medium_that_its_model_does_not_bound_is_refused(
    part: dict[str, Any], needs: str
) -> None:
    """With the field that the model lacks."""
    refusal = _asking(part, model=Model(backends=BACKENDS))

    assert isinstance(refusal, Refusal)
    assert refusal.param == "messages[0].content[0].type"
    assert needs in refusal.message


_TEXT = st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=60))
_IMAGE = st.builds(
    lambda raw, detail: _image(f"data:image/png;base64,{raw}", detail=detail),
    st.binary(max_size=600).map(lambda raw: base64.b64encode(raw).decode()),
    st.sampled_from(["auto", "low", "high"]),
)
_TOOL = st.builds(
    lambda name, what: {"type": "function", "function": {"name": name, "description": what}},
    st.text(max_size=20),
    st.text(max_size=40),
)


def _texts_in(value: Any) -> int:
    """Bytes of all names and texts, as a byte-level tokenizer reads them, without what carries a picture."""
    if isinstance(value, str):
        return 0 if value.startswith("data:image/") else len(value.encode())
    if isinstance(value, dict):
        return sum(_texts_in(key) + _texts_in(inner) for key, inner in value.items())
    return sum(map(_texts_in, value)) if isinstance(value, list) else 0


@given(
    st.lists(st.lists(st.one_of(_TEXT, _IMAGE), min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(_TOOL, max_size=3),
)
def test_the_bound_covers_every_byte_of_text_and_every_picture(
    contents: list[list[dict[str, Any]]], tools: list[dict[str, Any]]
) -> None:
    """What a byte-level tokenizer makes of all texts, and the model's bound of each picture, counted apart from us."""
    messages = [{"role": "user", "content": parts} for parts in contents]
    call = read_call({"model": "m", "messages": messages, "tools": tools}, SEEING)
    assert isinstance(call, Call)
    pictures = json.dumps(messages).count('"image_url": {')

    counted = _texts_in(messages) + _texts_in(tools) + pictures * 1_500
    assert call.input_tokens_bound >= counted
