"""What a compiled program means (protocol §1 and §13)."""

from __future__ import annotations

import pytest

from iserver.fdl import FdlError, SourceFile, compile_program
from iserver.fdl.model import Elapsed, FieldDefinition, Scalar, ScalarType
from tests.iserver.fdl.programs import SHOP, errors, program, warnings


def names(fields: tuple[FieldDefinition, ...]) -> list[str]:
    return [field.name for field in fields]


def test_the_running_example_compiles():
    shop = program(SHOP)
    assert shop.namespace == "com.example.shop"
    assert names(shop.session.keys) == ["deviceId", "arrivalId"]
    assert names(shop.session.args) == ["userId", "channel"]
    assert shop.session.split_key.name == "userId"
    assert list(shop.session.mutables) == ["userId"]
    assert list(shop.features) == ["RatingBox", "ProductInfo", "NewCheckout", "Search"]
    assert shop.features["NewCheckout"].off_by_default
    assert shop.features["Search"].fields["results"].external == ("popularity", "distance")
    assert shop.features["Search"].fields["dwell"].elapsed == Elapsed("session_end")
    assert shop.features["RatingBox"].fields["tone"].default == "CASUAL"
    assert shop.enums["Tone"].values == ("FORMAL", "CASUAL")
    assert warnings(SHOP) == []


def test_a_program_without_session_has_the_implied_persistent_key():
    key = program("feature F {}").session.persistent_key
    assert (key.name, key.type) == ("deviceId", ScalarType(Scalar.ID, nullable=False))


def test_a_session_without_persistent_key_gets_the_implied_one_first():
    session = program("session { args { cart: ID @session_key other: Int } }").session
    assert names(session.keys) == ["deviceId", "cart"]
    assert session.split_key is session.persistent_key


def test_an_arg_that_clients_must_send_is_required():
    fields = program(SHOP).features["Search"].fields
    assert fields["query"].required
    assert not fields["page"].required
    assert not fields["dwell"].required


def test_imports_are_flattened_in_the_order_of_the_columns():
    text = """
        event Ev { v: Int }
        feature A { args { a: Int } output { o: Int } plugin { p: Int } event E1 {} import Ev }
        abstract feature A2 { args { a2: Int } output { o2: Int } plugin { p2: Int } event E2 {} }
        feature B { args { b: Int } output { ob: Int } import A plugin { pb: Int } event Eb {}
            import A2 args { b2: Int } }
    """
    feature = program(text).features["B"]
    assert names(feature.args) == ["b", "b2", "a", "a2"]
    assert names(feature.outputs) == ["o", "o2", "ob"]
    assert names(feature.plugin_outputs) == ["p", "p2", "pb"]
    assert names(feature.columns) == ["b", "b2", "a", "a2", "o", "p", "o2", "p2", "ob", "pb"]
    assert list(feature.events) == ["Ev", "E1", "E2", "Eb"]
    assert feature.imports == ("A", "A2")


def test_an_event_has_imported_fields_first_and_plugin_fields_last():
    text = """
        session { event E { import B x: Int plugin { p: String } y: Int } }
        event B { b: Int plugin { bp: Int } c: Int }
    """
    event = program(text).session.events["E"]
    assert names(event.columns) == ["b", "c", "bp", "x", "y", "p"]
    assert names(event.fields) == ["b", "c", "x", "y"]
    assert names(event.plugin_fields) == ["bp", "p"]
    assert event.imports == ("B",)


def test_an_event_imports_what_its_imports_import():
    text = "event A { a: Int } event B { import A } feature F { import B }"
    assert program(text).features["F"].events["B"].imports == ("B", "A")


def test_several_files_are_one_program():
    files = [SourceFile("a.fdl", "type T { x: Int }"), SourceFile("b.fdl", "feature F { args { t: T! } }")]
    assert str(compile_program(files).features["F"].args[0].type) == "T!"


def test_an_edited_comment_does_not_change_a_feature():
    before = program('"one" feature F { args { "x" a: Int } }').features["F"]
    after = program('"two" feature F { args { "y" a: Int @deprecated(reason: "z") } }').features["F"]
    assert before == after
    assert before != program("feature F { args { a: Int! } }").features["F"]


def test_the_fingerprint_follows_names_texts_and_order():
    one, two = SourceFile("a.fdl", "feature A {}"), SourceFile("b.fdl", "feature B {}")
    fingerprints = {
        compile_program(files).fingerprint
        for files in ([one, two], [two, one], [one], [SourceFile("a.fdl", "feature A { }")])
    }
    assert len(fingerprints) == 4
    assert compile_program([one]).fingerprint == compile_program([one]).fingerprint


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r'"q\" b\\ s\/ \n\t é 😀"', 'q" b\\ s/ \n\t é 😀'),
        ('"one\ntwo"', "one\ntwo"),
        ('"""  one "two"\n   three """', 'one "two"\n   three'),
        ('""', ""),
    ],
)
def test_strings_are_unescaped_and_block_strings_trimmed(literal: str, value: str):
    assert program(f"feature F {{ args {{ a: String = {literal} }} }}").features["F"].args[0].default == value


def test_defaults_are_json_values_of_their_type():
    text = """
        type P { x: Int! y: Float tags: [String!] }
        feature F { output { p: [P!]! = [{tags: ["a"] x: 1}, {x: -2, y: 1.5e3}] } }
    """
    assert program(text).features["F"].outputs[0].default == [
        {"x": 1, "y": None, "tags": ["a"]},
        {"x": -2, "y": 1500.0, "tags": None},
    ]


def test_an_elapsed_path_names_features_and_events():
    good = 'feature G { event E {} } feature F { event X { t: Int! @elapsed(kind: "until", path: ["G", "G.E"]) } }'
    assert program(good).features["F"].events["X"].fields[0].elapsed == Elapsed("until", ("G", "G.E"))
    assert "'H.E' is no feature or event" in errors(good.replace("G.E", "H.E"))[0]


def test_a_java_keyword_is_warned_about():
    assert warnings("feature F { args { class: Int } }") == [
        "File test.fdl, Line 1, Column 19: warning: 'class' is a Java keyword; Java clients cannot be generated"
    ]


# --- errors ---------------------------------------------------------------------------------------


def test_syntax_errors_say_where_and_what_was_expected():
    assert errors("feature F { args { a Int } }", "shop.fdl") == [
        "shop.fdl: line 1 char 21: unexpected 'Int', expecting ':'"
    ]


def test_semantic_errors_have_the_other_form():
    assert errors("\nfeature F { args { a: Nope } }", "shop.fdl") == [
        "File shop.fdl, Line 2, Column 22: Unknown type: 'Nope'"
    ]


def test_every_syntax_error_of_every_file_is_reported():
    files = [
        SourceFile(
            "a.fdl", "feature { }\nfeature Good {}\nenum E { }\ntype T { a: Int = 1 }\nfeature H { args { x: Int }"
        ),
        SourceFile("b.fdl", "session { args { on: Int } }"),
    ]
    with pytest.raises(FdlError) as caught:
        compile_program(files)
    places = [(item.file, item.line, item.column) for item in caught.value.diagnostics]
    assert places == [("a.fdl", 1, 8), ("a.fdl", 3, 9), ("a.fdl", 4, 16), ("a.fdl", 5, 27), ("b.fdl", 1, 17)]


def test_every_semantic_error_is_reported():
    text = """\
        session { args { a: Int @persistent_key } }
        feature F { args { b: Nope c: Float = 1 } output { d: Int! } import G }
    """
    assert [line.split(": ", 1)[1] for line in errors(text)] == [
        "@persistent_key must be on a string type",
        "@persistent_key must be on a non nullable argument",
        "Unknown type: 'Nope'",
        "Expecting a floating point number such as 1.0",
        "Unknown name for import: 'G'",
        "The non nullable output 'd' needs a default value",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature F { args { a: Int; } }", "unexpected character ';'"),
        ("feature F { args { on: Int } }", "'on' is a reserved word"),
        ('feature F { args { a: String = "x } }', "unterminated string or unknown escape in it"),
        (r'feature F { args { a: String = "\ud800" } }', "half of a surrogate pair"),
        ("feature F {", "unexpected end of file"),
        ("hello", "unexpected 'hello', expecting "),
    ],
)
def test_syntax_messages_name_what_is_wrong(text: str, message: str):
    assert message in errors(text)[0]


def test_deeply_nested_text_is_an_error_or_a_program_but_no_crash():
    depth = 20_000
    assert errors("feature F { args { a: " + "[" * depth + " } }")
    assert errors("feature F { args { a: Int = " + "[" * depth + "]" * depth + " } }")
