"""The grammar of catalog files (protocol §9.1): what is accepted, and what each mistake is told."""

from __future__ import annotations

import textwrap
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_server.catalog.model import Scope, prefixes
from intake_server.catalog.parser import CatalogError, parse

SCOPE = Scope("/srv/cat/")


def read(text: str) -> Any:
    return parse(textwrap.dedent(text), SCOPE, "named")


def test_a_full_catalog():
    parsed = read(
        """
        name: mine
        description: all of it
        metadata:
          version: 1
          parameters: {bucket: {type: str, description: shared bucket, default: test}}
        plugins: {source: [{module: my_pkg.my_drivers}]}
        sources:
          entry1:
            description: text
            driver: csv
            args: {urlpath: '{{ CATALOG_DIR }}/x'}
            metadata: {any: thing, day: 2020-01-02, at: 2020-01-02 03:04:05, pair: !!python/tuple [1, 2]}
            direct_access: allow
            parameters: {part: {description: which, type: int, default: 1, min: 0, max: 9}}
            unknown_key: is fine
        """
    )
    catalog = parsed.catalog
    entry = catalog.entries["entry1"]
    assert (catalog.name, catalog.description, parsed.modules) == ("mine", "all of it", ("my_pkg.my_drivers",))
    assert [parameter.name for parameter in entry.parameters] == ["bucket", "part"]
    assert (entry.metadata["day"], entry.metadata["at"]) == (date(2020, 1, 2), datetime(2020, 1, 2, 3, 4, 5))
    assert (entry.metadata["pair"], entry.direct_access) == ((1, 2), "allow")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "the file is empty: expected a map with the key 'sources'"),
        ("[1]", "expected a map with the key 'sources', found a list"),
        ("a: 1", "the key 'sources' is missing"),
        ("sources: [{name: a}]", "line 1: 'sources' is a list, which is the obsolete syntax"),
        ("sources: 7", "line 1: 'sources' must be a map from names to entries, found an integer"),
        ("sources: {1: {driver: csv}}", "line 1: entry name 1 must be a text, found an integer"),
        ("sources: {a: 7}", "line 1: entry 'a' must be a map, found an integer"),
        ("sources: {a: {}}", "line 1: entry 'a': the key 'driver' is missing"),
        ("sources:\n  a:\n    driver: 7", "line 3: entry 'a': 'driver' must be a name, a list of names or a map"),
        ("sources: {a: {driver: csv, args: [1]}}", "line 1: entry 'a': 'args' must be a map, found a list"),
        ("sources: {a: {driver: csv, metadata: x}}", "line 1: entry 'a': 'metadata' must be a map, found a text"),
        ("sources: {a: {driver: csv, cache: x}}", "line 1: entry 'a': 'cache' must be a list, found a text"),
        (
            "sources: {a: {driver: csv, description: null}}",
            "line 1: entry 'a': 'description' must be a text, found nothing",
        ),
        ("sources: {a: {driver: csv, direct_access: maybe}}", "must be one of forbid, allow, force, found 'maybe'"),
        ("sources: {a: {driver: csv, remote: true}}", "line 1: entry 'a': the key 'remote' is refused"),
        ("sources: {a: {driver: csv, cls: os.system}}", "line 1: entry 'a': the key 'cls' is refused"),
        (
            "sources: {a: {driver: csv, parameters: {p: {type: int}}}}",
            "parameter 'p': the text 'description' is missing",
        ),
        ("sources: {a: {driver: csv, parameters: {p: {description: d, type: spam}}}}", "unknown type 'spam'"),
        ("sources: {a: {driver: csv, parameters: {p: {description: d, type: int, min: x}}}}", "'min' does not fit"),
        ("sources: {a: {driver: csv, parameters: {p: {description: d, allowed: x}}}}", "'allowed' must be a list"),
        ("sources: {a: {driver: csv, parameters: [1]}}", "'parameters' must be a map, found a list"),
        ("sources: {a: {driver: csv}, a: {driver: csv}}", "line 1: duplicate key 'a'"),
        ("sources: {}\nplugins: 1", "line 2: 'plugins' must be a map, found an integer"),
        ("sources: {}\nplugins: {}", "line 2: 'plugins' needs a list 'source', found nothing"),
        ("sources: {}\nplugins: {source: [{dir: x}]}", "folders of drivers ('dir') are not accepted"),
        ("sources: {}\nplugins: {source: [x]}", "needs the key 'module' with a text"),
        ("sources: {a: !!python/object/apply:os.system [ls]}", "could not determine a constructor"),
        ("sources: {a: &x [*x]}", ""),
        ("sources: {? [1] : 2}", "line 1: a key is a map or a list"),
        ("a: b: c", "line 1: mapping values are not allowed"),
        ("[" * 2000, ""),
    ],
)
def test_mistakes(text: str, mistake: str):
    with pytest.raises(CatalogError) as raised:
        read(text)
    assert mistake in str(raised.value)


def test_every_mistake_is_told_at_once():
    with pytest.raises(CatalogError) as raised:
        read("sources: {a: {driver: 7}, b: {}, c: {driver: csv, args: 1}}")
    assert len(raised.value.mistakes) == 3


def test_the_old_template_tag_is_ignored_with_a_warning():
    parsed = read("sources: {a: {driver: csv, args: {urlpath: !template '{{ CATALOG_DIR }}/x'}}}")
    assert parsed.catalog.entries["a"].arguments == {"urlpath": "{{ CATALOG_DIR }}/x"}
    assert parsed.warnings == ("the tag '!template' is obsolete and ignored",)


def test_merge_keys_work_and_may_be_overridden():
    parsed = read("base: &b {driver: csv, description: base}\nsources: {a: {<<: *b, description: own}}")
    assert parsed.catalog.entries["a"].description == "own"


def test_equal_texts_have_equal_generations_and_others_do_not():
    one, same, other = read("sources: {}"), read("sources: {}"), read("sources: {a: {driver: csv}}")
    assert one.catalog.generation == same.catalog.generation != other.catalog.generation


@given(st.text(max_size=200))
def test_no_text_at_all_raises_anything_but_a_catalog_error(text: str):
    try:
        parse(text, SCOPE)
    except CatalogError as error:
        assert error.mistakes


@given(st.text(alphabet="ab.", max_size=12), st.integers(0, 12))
def test_a_dotted_name_may_begin_with_every_name_that_ends_at_a_dot(name: str, longest: int):
    expected = [name[:position] for position, sign in enumerate(name) if sign == "." and position <= longest]
    assert list(prefixes(name, longest)) == expected
