"""Gates, assignments and outputs (protocol §10, appendix B)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iserver.configuration.compiled import configure
from iserver.document import read_document
from iserver.evaluation.audiences import Context
from iserver.evaluation.plans import Visitor, bucket
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.session import Session
from iserver.sessions.state import NOTHING

FDL = """
session { args { country: String = "de" } event Buy { value: Float! } }
feature Box {
    args { size: Int = 1 }
    output { label: String! = "plain" width: Int! = 10 plain: Boolean @is_default(out: "label") }
    event Click { depth: Int! }
}
feature Hidden @off_by_default {}
feature Always @no_gate {}
"""
PROGRAM = compile_program([SourceFile("test.fdl", FDL)])


def configuration(**parts):
    document = {
        "schemaVersion": 1,
        "revision": "r1",
        "environment": {"id": "f6d3a522-320e-47f6-9ad7-4534c050cfa0", "name": "test"},
        "fdl": [],
        **parts,
    }
    return configure(read_document(orjson.dumps(document)), PROGRAM)


def experiment(id_="exp-1", *, values=None, weights=(50, 50), **more):
    """An experiment on the label of the box, with a control and one variant."""
    values = [{"feature": "Box", "field": "label", "value": {"constant": "bold"}}] if values is None else values
    variants = [
        {"id": f"{id_}-control", "control": True, "weight": weights[0], "values": []},
        {"id": f"{id_}-b", "name": "B", "weight": weights[1], "values": values},
    ]
    return {"id": id_, "name": id_, "variants": variants, **more}


def visitor(config, key="dev-1", *, now_ms=0, assignments=NOTHING, open_gates=frozenset(), **fields):
    session = Session("s")
    return Visitor(
        Context({"deviceId": key, **fields}, session), key, now_ms, assignments, open_gates, config.devices.get(key)
    )


def outputs(config, someone, **args):
    someone.context.feature = args
    outcome, _ = config.features["Box"].evaluate(someone)
    return outcome.outputs


# --- buckets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("salt", "key", "expected"),
    [
        ("exp-1", "dev-1", 0.539564706),
        ("exp-1", "dev-2", 0.389300338),
        ("exp-1", "user-42", 0.120516927),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", "dev-1", 0.600337378),
        ("rollout:RatingBox", "dev-1", 0.226608902),
        ("rollout:RatingBox", "dev-2", 0.395915814),
        ("exp-1", "é☃", 0.644342327),
        ("e1a7c0de-0000-4000-8000-000000000001", "dev-1", 0.764805580),
        ("e1a7c0de-0000-4000-8000-000000000002", "dev-1", 0.833755250),
        ("gate:NewCheckout", "dev-1", 0.274127792),
    ],
)
def test_buckets_are_those_of_the_protocol(salt, key, expected):
    assert bucket(salt, key) == pytest.approx(expected, abs=5e-10)


@given(st.text(), st.text())
def test_every_bucket_is_in_the_unit_interval(salt, key):
    assert 0 <= bucket(salt, key) < 1


# --- experiments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "share"), [((50, 50), 0.5), ((1, 3), 0.75), ((99, 1), 0.01)])
def test_splits_match_the_weights(weights, share):
    config = configuration(experiments=[experiment(weights=weights)])
    seen = Counter(outputs(config, visitor(config, f"dev-{n}"))["label"] for n in range(100_000))
    deviation = (share * (1 - share) / 100_000) ** 0.5
    assert seen["bold"] / 100_000 == pytest.approx(share, abs=4.5 * deviation)


def test_two_experiments_split_independently():
    wide = [{"feature": "Box", "field": "width", "value": {"constant": 20}}]
    config = configuration(experiments=[experiment(), experiment("exp-2", values=wide)])
    seen = Counter()
    for n in range(20_000):
        shown = outputs(config, visitor(config, f"dev-{n}"))
        seen[shown["label"], shown["width"]] += 1
    assert len(seen) == 4
    assert all(count == pytest.approx(5000, abs=280) for count in seen.values())


def test_an_experiment_takes_only_its_percentage():
    config = configuration(experiments=[experiment(percent=20, weights=(1, 99_999))])
    seen = Counter(outputs(config, visitor(config, f"dev-{n}"))["label"] for n in range(20_000))
    assert seen["bold"] == pytest.approx(4000, abs=260)


def test_the_first_experiment_in_the_document_wins_an_output():
    italic = [{"feature": "Box", "field": "label", "value": {"constant": "italic"}}]
    only_b = {"weights": (1e-9, 1)}
    first, second = experiment(**only_b), experiment("exp-2", values=italic, **only_b)
    for order, label in (((first, second), "bold"), ((second, first), "italic")):
        config = configuration(experiments=list(order))
        assert outputs(config, visitor(config))["label"] == label


def test_an_assignment_is_kept_when_the_weights_change():
    config = configuration(experiments=[experiment(weights=(1, 1e-9))])
    someone = visitor(config, assignments={"exp-1": "exp-1-b"})
    assert outputs(config, someone)["label"] == "bold"
    assert someone.assigned == {}


@pytest.mark.parametrize(
    ("settings", "now_ms", "runs"),
    [
        ({}, 0, True),
        ({"state": "paused"}, 0, False),
        ({"state": "done"}, 0, False),
        ({"startTs": 100}, 99, False),
        ({"startTs": 100}, 100, True),
        ({"finishTs": 200}, 199, True),
        ({"finishTs": 200}, 200, False),
    ],
)
def test_an_experiment_runs_while_it_is_published_and_between_its_times(settings, now_ms, runs):
    config = configuration(experiments=[experiment(weights=(1e-9, 1), **settings)])
    someone = visitor(config, now_ms=now_ms)
    assert (outputs(config, someone)["label"] == "bold") is runs
    assert bool(someone.assigned) is runs


def test_only_the_audience_takes_part():
    audience = {"id": "a", "name": "a", "definition": {"field": "session.country", "op": "eq", "value": "at"}}
    config = configuration(audiences=[audience], experiments=[experiment(weights=(1e-9, 1), audienceId="a")])
    assert outputs(config, visitor(config, country="de"))["label"] == "plain"
    austrian = visitor(config, country="at")
    assert outputs(config, austrian)["label"] == "bold"
    assert list(austrian.context.found) == ["a"]


def test_the_control_is_assigned_like_any_variant():
    config = configuration(experiments=[experiment(weights=(1, 1e-9))])
    _, assignments = config.features["Box"].evaluate(visitor(config))
    assert assignments == (("exp-1", "exp-1-control"),)


@given(st.permutations(["label", "width"]), st.text(min_size=1))
def test_the_result_never_depends_on_the_order_of_a_json_object(order, key):
    controls = {
        name: [{"percent": 50, "value": {"constant": {"label": "x", "width": 3}[name]}}] for name in ("label", "width")
    }
    config = configuration(features={"Box": {"controls": controls}})
    shuffled = configuration(features={"Box": {"controls": {name: controls[name] for name in order}}})
    assert outputs(config, visitor(config, key)) == outputs(shuffled, visitor(shuffled, key))


# --- rollouts and defaults ------------------------------------------------------------------------


def test_the_first_rollout_that_fits_wins():
    rollouts = [
        {"audienceId": "a", "value": {"constant": "grüezi"}},
        {"percent": 0, "value": {"constant": "nobody"}},
        {"value": {"constant": "hello"}},
    ]
    audience = {"id": "a", "name": "a", "definition": {"field": "session.country", "op": "eq", "value": "ch"}}
    config = configuration(audiences=[audience], features={"Box": {"controls": {"label": rollouts}}})
    assert outputs(config, visitor(config, country="ch"))["label"] == "grüezi"
    assert outputs(config, visitor(config, country="de"))["label"] == "hello"


def test_a_rollout_reaches_its_percentage():
    controls = {"label": [{"percent": 30, "value": {"constant": "new"}}]}
    config = configuration(features={"Box": {"controls": controls}})
    seen = Counter(outputs(config, visitor(config, f"dev-{n}"))["label"] for n in range(20_000))
    assert seen["new"] == pytest.approx(6000, abs=300)


@pytest.mark.parametrize(
    ("parts", "is_default"),
    [
        ({}, True),
        ({"features": {"Box": {"controls": {"label": [{"value": {"constant": "x"}}]}}}}, True),
        ({"features": {"Box": {"controls": {"label": [{"percent": 99.9999, "value": {"constant": "x"}}]}}}}, False),
        ({"experiments": [experiment(weights=(1e-9, 1))]}, False),
    ],
)
def test_is_default_tells_whether_everybody_gets_the_value(parts, is_default):
    config = configuration(**parts)
    assert outputs(config, visitor(config))["plain"] is is_default


# --- gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "gate", "is_on"),
    [
        ("Box", {}, True),
        ("Box", {"active": False}, False),
        ("Hidden", {}, False),
        ("Hidden", {"active": True}, True),
        ("Box", {"percent": 0}, False),
        ("Always", {"percent": 0}, True),
    ],
)
def test_a_gate_follows_the_configuration_then_the_fdl(feature, gate, is_on):
    config = configuration(features={feature: {"gate": gate}})
    assert config.features[feature].is_on(visitor(config)) is is_on


def test_a_percentage_lets_its_share_in():
    config = configuration(features={"Box": {"gate": {"percent": 10}}})
    let_in = sum(config.features["Box"].is_on(visitor(config, f"dev-{n}")) for n in range(20_000))
    assert let_in == pytest.approx(2000, abs=190)


@pytest.mark.parametrize(("percent", "is_on"), [(1, True), (0, False)])
def test_who_was_let_in_stays_in_until_the_percentage_is_zero(percent, is_on):
    config = configuration(features={"Box": {"gate": {"percent": percent}}})
    regular = visitor(config, "dev-1", open_gates=frozenset({"Box"}))
    assert config.features["Box"].is_on(regular) is is_on


@pytest.mark.parametrize("active", [True, False])
def test_a_variant_can_switch_a_feature(active):
    switch = [{"feature": "Box", "active": active}]
    config = configuration(
        experiments=[experiment(values=switch, weights=(1e-9, 1))],
        features={"Box": {"gate": {"active": not active}}},
    )
    assert config.features["Box"].is_on(visitor(config)) is active


def test_a_gate_can_ask_for_an_audience():
    audience = {"id": "a", "name": "a", "definition": {"field": "feature.size", "op": "gte", "value": 5}}
    config = configuration(audiences=[audience], features={"Box": {"gate": {"audienceId": "a"}}})
    someone = visitor(config)
    for size, is_on in ((4, False), (5, True)):
        someone.context.feature = {"size": size}
        assert config.features["Box"].is_on(someone) is is_on


# --- QA devices -----------------------------------------------------------------------------------


def test_an_override_is_final():
    device = {
        "persistentId": "dev-qa",
        "overrides": {"Box": {"active": True, "values": {"label": {"constant": "qa"}}}},
    }
    config = configuration(
        qa={"devices": [device]},
        experiments=[experiment(weights=(1e-9, 1))],
        features={"Box": {"gate": {"active": False}}},
    )
    tester = visitor(config, "dev-qa")
    assert config.features["Box"].is_on(tester)
    assert outputs(config, tester)["label"] == "qa"
    assert not config.features["Box"].is_on(visitor(config, "dev-1"))


def test_a_variant_can_be_forced():
    device = {"persistentId": "dev-qa", "variants": {"exp-1": "exp-1-b"}}
    config = configuration(qa={"devices": [device]}, experiments=[experiment(weights=(1, 1e-9), percent=0)])
    tester = visitor(config, "dev-qa")
    assert outputs(config, tester)["label"] == "bold"
    assert (tester.assigned, tester.forced) == ({"exp-1": "exp-1-b"}, {"exp-1"})


def test_evaluation_shares_the_outcomes_of_equal_choices():
    config = configuration(experiments=[experiment()])
    outcomes = {id(config.features["Box"].evaluate(visitor(config, f"dev-{n}"))[0]) for n in range(100)}
    assert len(outcomes) == 2


def test_a_visitor_is_split_by_the_split_value_not_by_the_device():
    config = configuration(experiments=[experiment()])
    phone, laptop = visitor(config, "dev-1"), visitor(config, "dev-2")
    labels = {outputs(config, replace(who, split_value="user-7"))["label"] for who in (phone, laptop)}
    assert len(labels) == 1
