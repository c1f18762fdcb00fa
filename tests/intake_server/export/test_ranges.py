"""The ``Range`` header against a byte string of 100 bytes."""

from __future__ import annotations

import pytest

from intake_server.export.ranges import ByteRange, Unsatisfiable, names_tag, range_applies, wanted


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", ByteRange(0, 10)),
        ("bytes=90-", ByteRange(90, 100)),
        ("bytes=90-200", ByteRange(90, 100)),
        ("bytes=-8", ByteRange(92, 100)),
        ("bytes=-500", ByteRange(0, 100)),
        ("Bytes = 5 - 5", ByteRange(5, 6)),
        (None, None),
        ("bytes=5-2", None),
        ("bytes=0-1,5-6", None),
        ("items=0-5", None),
        ("bytes=-", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_a_single_range_is_understood_and_anything_else_means_the_whole(header, expected):
    assert wanted(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(header):
    with pytest.raises(Unsatisfiable):
        wanted(header, 100)


def test_a_copy_is_good_when_its_tag_is_named():
    assert names_tag('"a", W/"b"', '"b"')
    assert names_tag("*", '"b"')
    assert not names_tag('"a"', '"b"')
    assert not names_tag(None, '"b"')


def test_a_range_is_only_sent_to_those_who_have_the_same_version():
    assert range_applies(None, '"a"')
    assert range_applies('"a"', '"a"')
    assert not range_applies('"old"', '"a"')
    assert not range_applies('W/"a"', '"a"')
