"""`iserver fmt`: one layout, the same meaning."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from iserver.fdl import FdlError, SourceFile, compile_program
from iserver.fdl.formatter import format_source
from tests.iserver.fdl.programs import SHOP

CORPUS = Path(__file__).parents[2] / "conformance" / "fdl_corpus" / "valid"


def formatted(text: str) -> str:
    return format_source(dedent(text))


def test_everything_gets_a_line_of_its_own():
    assert formatted(
        'session{args{"d" deviceId:ID!@persistent_key,x:Int=3 @mutable @per} import Ev event X{}}'
    ) == dedent(
        """\
        session {
            args {
                "d"
                deviceId: ID! @persistent_key
                x: Int = 3 @mutable @per
            }
            import Ev
            event X {}
        }
        """
    )


def test_values_and_directive_arguments_stay_on_the_line():
    text = 'feature F { output { a:[ D ! ]!=[ {id:"1" n:{a:1,b:[1 2]}} , {} ] @external ( values : ["a" "b"] ) } }'
    assert formatted(text) == dedent(
        """\
        feature F {
            output {
                a: [D!]! = [{id: "1", n: {a: 1, b: [1, 2]}}, {}] @external(values: ["a", "b"])
            }
        }
        """
    )


def test_comments_stay_with_what_they_are_about():
    text = """\
        # the file
        feature A {} # tail
        # about B
        feature B {
            # first
            args { a: Int # a
            }
            # last
        }
        # the end
    """
    assert formatted(text) == dedent(
        """\
        # the file
        feature A {}  # tail
        # about B
        feature B {
            # first
            args {
                a: Int  # a
            }
            # last
        }
        # the end
        """
    )


def test_one_blank_line_is_kept_and_definitions_are_apart():
    text = "feature A {\n\n\n  args { a: Int\n\n\n\n b: Int }\n output { c: Int } }\nfeature B {}\n"
    assert formatted(text) == dedent(
        """\
        feature A {
            args {
                a: Int

                b: Int
            }
            output {
                c: Int
            }
        }

        feature B {}
        """
    )


def test_a_comment_inside_a_value_breaks_the_line():
    assert formatted("feature F { args { a: [Int] = [1 # one\n 2] } }") == dedent(
        """\
        feature F {
            args {
                a: [Int] = [1  # one
                    2]
            }
        }
        """
    )


def test_block_strings_are_left_as_they_are():
    text = '"""\n  doc\n    more\n"""\nfeature F {}\n'
    assert format_source(text) == text


@pytest.mark.parametrize("text", ["", "  \n,\n", "\ufeff"])
def test_nothing_stays_nothing(text: str):
    assert format_source(text) == ""


def test_the_running_example_is_formatted_once_and_for_all():
    once = format_source(SHOP)
    assert format_source(once) == once
    assert compile_program([SourceFile("a", once)]) == compile_program([SourceFile("a", SHOP)])


def test_wrong_text_is_an_error():
    with pytest.raises(FdlError, match=r"shop\.fdl: line 1 char 8"):
        format_source("feature {}", "shop.fdl")


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.fdl")), ids=lambda path: path.stem)
def test_formatting_keeps_the_meaning_and_changes_nothing_twice(path: Path):
    text = path.read_bytes().decode()
    once = format_source(text)
    assert format_source(once) == once
    before, after = compile_program([SourceFile("a", text)]), compile_program([SourceFile("a", once)])
    assert after == before
    assert comments(once) == comments(text)


def comments(text: str) -> list[str]:
    return [line.split("#", 1)[1].strip() for line in text.splitlines() if "#" in line and '"' not in line]
