"""FDL names in the warehouse (protocol §12.3)."""

from __future__ import annotations

import pytest

from iserver.fdl.names import is_package_name, snake_case


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("RatingBox", "rating_box"),
        ("HTTPServer", "http_server"),
        ("HTTPServer2XX", "http_server2_xx"),
        ("aURL", "a_url"),
        ("x2Y", "x2_y"),
        ("Feature2", "feature2"),
        ("foo_Bar", "foo_bar"),
        ("userIDs", "user_i_ds"),
        ("__a", "a"),
        ("a__b", "a_b"),
        ("eF_", "e_f_"),
        ("_", ""),
    ],
)
def test_names_become_snake_case(name: str, column: str):
    assert snake_case(name) == column


@pytest.mark.parametrize("text", ["com.example", "Com.X_1", "_a", "object"])
def test_a_namespace_is_a_package(text: str):
    assert is_package_name(text)


@pytest.mark.parametrize("text", ["", "com.", "1com", "com. x", "com.class.x", "a-b", "não"])
def test_what_is_no_package(text: str):
    assert not is_package_name(text)
