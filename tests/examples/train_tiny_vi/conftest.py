"""Adds examples/ to sys.path: the recipe is a separate package, not part of binhdan."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
sys.path.insert(0, str(EXAMPLES))

TEXT = (
    "Hà Nội là thủ đô của nước Việt Nam, nằm bên bờ sông Hồng. "
    "Thành phố được vua Lý Thái Tổ chọn làm kinh đô "
    "vào tháng 7 năm 1010. "
    "Ngày 2 tháng 9 năm 1945, Hồ Chí Minh đọc Tuyên ngôn Độc lập ở quảng trường Ba Đình.\n"
    "Lịch sử\n"
    "Năm 1831, vua Minh Mạng lập tỉnh Hà Nội với 4 phủ và 15 huyện. "
    "Những người thợ thủy tinh ở phố Hàng Bồ không "
    "còn giữ được nghề nữa, nhưng khách hàng thì vẫn còn nhiều. Hôm nay không có gì mới, bạn ạ."
)


@pytest.fixture(scope="session")
def text() -> str:
    return TEXT
