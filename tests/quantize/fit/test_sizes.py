from __future__ import annotations

import pytest

from binhdan.quantize.fit.sizes import parse_size
from binhdan.runtime.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("350MB", 350_000_000),
        ("350 mb", 350_000_000),
        ("1.5GiB", 3 << 29),
        ("12KiB", 12288),
        ("12345", 12345),
        ("12345b", 12345),
        ("0.25 GB", 250_000_000),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "-5MB", "5TB", "1e9", "0", "0.0001", "nan", "5MB5", "9" * 90, "٣MB"]
)
def test_other_texts_are_errors(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a size such as 350MB"):
        parse_size(text)
