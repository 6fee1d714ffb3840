"""All shapes, by the name of the model that asks for them."""

from __future__ import annotations

from typing import Final

from tests.support.fakes.shapes import dialects, framing, headers, odd_bytes, sizes, times
from tests.support.fakes.shapes.wire import Shape, named

SHAPES: Final[dict[str, Shape]] = named(
    (
        *odd_bytes.SHAPES,
        *dialects.SHAPES,
        *framing.SHAPES,
        *headers.SHAPES,
        *sizes.SHAPES,
        *times.SHAPES,
    )
)
