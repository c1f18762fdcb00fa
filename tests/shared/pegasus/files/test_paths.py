"""Paths below a file provider that are made from members of requests."""

from __future__ import annotations

import pytest

from shared.pegasus.files import paths
from shared.pegasus.files.paths import PathError

LEADS_ELSEWHERE = ["..", ".", "%2e%2e", "%2E.", "a*", "?", "[ab]", "a\\b", "a\0b", "a\nb", "\x7f", "\udcff", "a%2fb"]


@pytest.mark.parametrize("level", LEADS_ELSEWHERE)
def test_a_level_that_leads_elsewhere_is_refused_by_the_name_of_its_member(level: str):
    with pytest.raises(PathError, match=r"^policy_name "):
        paths.name("policy_name", level)
    for path in (level, f"a/{level}", f"{level}/b", f"/a//{level}/"):
        with pytest.raises(PathError, match=r"^backup_path .* expected ") as caught:
            paths.folder("backup_path", path)
        str(caught.value).encode()  # it can be logged and sent


def test_a_name_is_one_level():
    for value in ("a/b", "/a", "a/", "/"):
        with pytest.raises(PathError, match=r"cluster_name .* contains '/', expected one name"):
            paths.name("cluster_name", value)
    for value in ("", "daily", "täglich", "a.b:c", "...", "with space", "100%"):
        assert paths.name("policy_name", value) == value


def test_a_folder_has_any_number_of_levels():
    assert paths.folder("backup_path", "/a//b/c/") == "a/b/c"
    assert paths.folder("backup_path", "//") == ""
    assert paths.backup_folder("", "", 7) == "backup/7"
    assert paths.backup_folder("/x/y", "daily", 7) == "x/y/daily/7"
