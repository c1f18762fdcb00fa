"""What one sorted sequence of rows has that another one has not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from replicaserver.storage.differences import differences

rows = st.dictionaries(st.binary(max_size=2), st.binary(max_size=1), max_size=12)


@given(rows, rows)
def test_the_differences_make_one_of_the_other(wanted, present):
    changes = dict(differences(sorted(wanted.items()), sorted(present.items())))
    assert {key: value for key, value in {**present, **changes}.items() if value is not None} == wanted


@given(rows)
def test_what_is_the_same_does_not_differ(same):
    assert list(differences(sorted(same.items()), sorted(same.items()))) == []
