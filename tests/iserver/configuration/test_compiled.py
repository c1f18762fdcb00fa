"""Documents checked against their FDL (protocol §9.3 and §9.4)."""

from __future__ import annotations

import orjson
import pytest

from iserver.configuration.compiled import configure, fdl_only
from iserver.document import DocumentError, read_document
from iserver.fdl import compile_program

BLUE = "e1a7c0de-0000-4000-8000-0000000000b1"


def configured(document, **options):
    read = read_document(orjson.dumps(document))
    return configure(read, compile_program(read.fdl), **options)


def test_the_example_is_valid(shop):
    config = configured(shop)
    assert config.revision == "r42"
    assert list(config.features) == ["RatingBox", "ProductInfo", "NewCheckout", "Search"]
    assert list(config.devices) == ["dev-qa"]


def test_fdl_alone_is_a_configuration(shop):
    program = compile_program(read_document(orjson.dumps(shop)).fdl)
    config = configure(fdl_only(program), program)
    assert config.environment.name == "local"
    assert config.settings.session_timeout_s == 1800


def change(document, path, value):
    """Set, or with `...` remove, what is at a path."""
    *parents, last = path
    for step in parents:
        document = document[step]
    if value is ...:
        del document[last]
    else:
        document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["schemaVersion"], 2, "schemaVersion: expected 1, found 2"),
        (["revision"], ..., "'revision' is missing"),
        (["revision"], "", "revision: expected a string that is not empty"),
        (["environment", "id"], "prod", 'environment.id: expected a UUID, found "prod"'),
        (["fdl"], {}, "fdl: expected an array, found {}"),
        (["fdl", 0, "content"], 7, "fdl[0].content: expected a string, found 7"),
        (
            ["settings"],
            {"sessionTimeoutSeconds": 5},
            "settings.sessionTimeoutSeconds: expected an integer of at least 10",
        ),
        (["audiences", 0, "definition"], {}, "audiences[0].definition: expected a rule with exactly one of"),
        (["audiences", 0, "definition", "op"], "like", "audiences[0].definition.op: expected one of eq, ne"),
        (
            ["audiences", 0, "definition"],
            {"all": [{"field": "session.userId", "op": "matches", "value": "(?=a)"}]},
            "audiences[0].definition.all[0].value: expected a regular expression in RE2 syntax "
            '(without back-references and look-around), found "(?=a)": invalid perl operator: (?=',
        ),
        (
            ["audiences", 0, "definition", "field"],
            "session.nothing",
            "audiences: audience 'aud-paid': 'session.nothing'",
        ),
        (["features", "Nothing"], {}, "features.Nothing: the FDL has no feature 'Nothing'"),
        (
            ["features", "NewCheckout", "gate", "percent"],
            101,
            "gate.percent: expected a number from 0 to 100, found 101",
        ),
        (["features", "NewCheckout", "gate", "audienceId"], "x", "gate.audienceId: there is no audience 'x'"),
        (
            ["features", "RatingBox", "controls", "nothing"],
            [{"value": {"constant": 1}}],
            "features.RatingBox.controls.nothing: feature 'RatingBox' has no output 'nothing'",
        ),
        (
            ["features", "RatingBox", "controls", "tone", 0, "value"],
            {"constant": "RUDE"},
            "features.RatingBox.controls.tone[0].value: invalid value for tone",
        ),
        (
            ["features", "RatingBox", "controls", "tone", 0, "value"],
            {"external": "x"},
            "'x' is not an external of 'tone': none",
        ),
        (
            ["features", "Search", "controls", "results", 0, "value"],
            {"external": "x"},
            "'x' is not an external of 'results': popularity, distance",
        ),
        (["features", "Search", "controls", "dwell"], [{"value": {"constant": 1}}], "'Search.dwell' is computed"),
        (["experiments", 0, "variants"], [], "experiments[0].variants: expected at least 2 variants, found 0"),
        (["experiments", 0, "variants", 0, "control"], False, "expected exactly one control variant, found 0"),
        (["experiments", 0, "variants", 0, "weight"], 0, "variants[0].weight: expected a number greater than 0"),
        (["experiments", 0, "variants", 1, "values", 0, "value"], {}, 'expected {"constant": …} or {"external": …}'),
        (["experiments", 0, "variants", 1, "values", 0, "field"], ..., "expected 'field' and 'value' together"),
        (["experiments", 1, "id"], "e1a7c0de-0000-4000-8000-000000000001", "experiments: the id"),
        (["experiments", 1, "variants", 0, "id"], "c0000001", "experiments.variants: the id 'c0000001' is used twice"),
        (["experiments", 0, "finishTs"], -1, "experiments[0].finishTs: the experiment would finish before it starts"),
        (["qa", "devices", 0, "variants"], {"x": "y"}, "qa.devices[0].variants: there is no experiment 'x'"),
        (["qa", "devices", 0, "overrides", "RatingBox", "values"], {"x": {"constant": 1}}, "has no output 'x'"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(shop, path, value, text):
    change(shop, path, value)
    with pytest.raises(DocumentError) as caught:
        configured(shop)
    assert text in str(caught.value)


def test_what_is_not_json_is_no_document():
    with pytest.raises(DocumentError, match="malformed JSON"):
        read_document(b"{")


def test_members_that_are_not_known_are_ignored(shop):
    shop["somethingNew"] = shop["experiments"][0]["owner"] = {"a": 1}
    assert configured(shop).revision == "r42"


def test_numbers_are_normalised_to_the_declared_type():
    fdl = "feature F { output { count: Int! = 1 ratio: Float! = 1.5 } }"
    document = {
        "schemaVersion": 1,
        "revision": "r",
        "environment": {"id": "f6d3a522-320e-47f6-9ad7-4534c050cfa0", "name": "n"},
        "fdl": [{"name": "f.fdl", "content": fdl}],
        "features": {"F": {"controls": {}}},
    }
    controls = document["features"]["F"]["controls"]
    controls.update(count=[{"value": {"constant": 2.0}}], ratio=[{"value": {"constant": 2}}])
    assert repr(configured(document).features["F"].controls) == "{'count': 2, 'ratio': 2.0}"
    controls.update(count=[{"value": {"constant": 2.5}}])
    with pytest.raises(DocumentError, match="Expecting an integer"):
        configured(document)


def test_a_lenient_server_leaves_out_what_the_fdl_does_not_have_and_says_so(shop):
    shop["features"]["Gone"] = {"gate": {"active": True}}
    shop["features"]["RatingBox"]["controls"]["gone"] = [{"value": {"constant": 1}}]
    shop["experiments"][0]["variants"][1]["values"].append({"feature": "Gone", "active": True})
    shop["qa"]["devices"][0]["overrides"]["Gone"] = {"active": True}
    config = configured(shop, lenient=True)
    assert len(config.warnings) == 4
    assert config.experiments["e1a7c0de-0000-4000-8000-000000000001"].variants[1].id == BLUE
    shop["features"]["RatingBox"]["controls"]["tone"] = [{"value": {"constant": 1}}]
    with pytest.raises(DocumentError, match="tone"):
        configured(shop, lenient=True)


def test_a_feature_that_is_never_gated_off_cannot_be_configured_off(shop):
    shop["fdl"][0]["content"] += "feature Always @no_gate {}"
    shop["features"]["Always"] = {"gate": {"active": False}}
    with pytest.raises(DocumentError, match="@no_gate"):
        configured(shop)


def nested(depth, innermost):
    return b'{"not":' * depth + orjson.dumps(innermost) + b"}" * depth


@pytest.mark.parametrize(
    ("depth", "text"),
    [
        (30, "rules are nested more than 20 deep"),
        (300, "the document is nested more than 64 deep"),
        (2000, "malformed JSON: depth limit exceeded"),
    ],
)
def test_rules_are_nested_within_reason(shop, depth, text):
    shop["audiences"][0]["definition"] = "here"
    rule = nested(depth, {"field": "session.channel", "op": "exists"})
    with pytest.raises(DocumentError, match=text):
        read_document(orjson.dumps(shop).replace(b'"here"', rule))


@pytest.mark.parametrize("order", [1, -1])
def test_audiences_refer_to_each_other_within_reason(shop, order):
    chain = [{"id": f"a{n}", "name": "n", "definition": {"audience": f"a{n + 1}"}} for n in range(500)]
    last = {"id": "a500", "name": "n", "definition": {"field": "session.channel", "op": "exists"}}
    shop["audiences"] += [*chain, last][::order]
    document = read_document(orjson.dumps(shop))
    with pytest.raises(DocumentError, match="audiences refer to each other more than 8 deep"):
        configure(document, compile_program(document.fdl))
