"""Bodies of answers: what is prepared for many is right for each."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest

from iserver.components import random_id
from iserver.configuration.encoding import ConfigurationEncoder
from iserver.evaluation.definition import LITTLE, Definition
from iserver.fdl import SourceFile, compile_program
from iserver.fdl.values import InvalidValueError
from iserver.sessions.session import Session

FDL = """
session { args { deviceId: ID! @persistent_key  visits: Int! = 1  channel: String } }
feature Box { args { product: String! page: Int gift: Boolean } output { _impressionId: Int! = 7 text: String! = "a" } }
feature Plain {}
"""


@pytest.fixture
def definition() -> Definition:
    return Definition(compile_program([SourceFile("a.fdl", FDL)]))


def test_equal_textual_args_are_the_same_objects(definition: Definition):
    given = {"product": "iPhone", "unknown": "x"}
    args, key = definition.read_feature_args("Box", given)
    assert args == {"product": "iPhone"}
    again, same_key = definition.read_feature_args("Box", dict(given))
    assert again is args
    assert same_key is key


@pytest.mark.parametrize(
    "more", [{"page": 1}, {"page": None}, {"gift": True}, {"unknown": [1]}, {"product": "x" * LITTLE}]
)
def test_other_args_are_read_each_time(definition: Definition, more: dict[str, Any]):
    given = {"product": "iPhone", **more}
    first, key = definition.read_feature_args("Box", given)
    second, same_key = definition.read_feature_args("Box", given)
    assert first == second
    assert first is not second
    assert key == same_key


@pytest.mark.parametrize("wrong", [{}, {"product": 1}, {"product": "a", "page": "1"}, {"product": "a", "gift": 1}])
def test_what_is_wrong_stays_wrong(definition: Definition, wrong: dict[str, Any]):
    for _ in range(2):
        with pytest.raises(InvalidValueError):
            definition.read_feature_args("Box", wrong)


def test_features_with_equal_args_are_told_apart(definition: Definition):
    _, box = definition.read_feature_args("Box", {"product": "a"})
    _, plain = definition.read_feature_args("Plain", {"product": "a"})
    assert (box, plain) == (("Box", '{"product":"a"}'), ("Plain", "{}"))


def test_a_session_of_an_older_program_is_told_in_the_words_of_the_present_one(definition: Definition):
    newer = compile_program([SourceFile("a.fdl", FDL.replace("channel", "source"))])
    session = Session.begin("s-1", definition, {"deviceId": "dev-1", "visits": 3, "channel": "paid"}, now_ms=5)
    told = ConfigurationEncoder("prod", newer, {}).session(session)
    assert list(told.items()) == list(
        {
            "environment": "prod",
            "deviceId": "dev-1",
            "sessionId": "s-1",
            "startTime": 5,
            "userAgent": "",
            "entryUrl": None,
            "visits": 3,
            "source": None,
            "lastFlushTime": 5,
        }.items()
    )


def test_variants_that_the_configuration_does_not_have_are_not_told(definition: Definition):
    wire = ConfigurationEncoder("prod", definition.program, {("e", "v"): {"variant": "v"}})
    assert orjson.loads(orjson.dumps(wire.variants([("e", "v"), ("gone", "v")]))) == [{"variant": "v"}]
    assert wire.variants([("e", "v")]) is wire.variants([("e", "v")])


async def test_an_output_called_like_a_member_of_ours_keeps_its_place(open_iserver, tmp_path):
    (tmp_path / "a.fdl").write_text(FDL)
    iserver = await open_iserver(config_file=None, fdl_files=(tmp_path / "a.fdl",))
    for _ in range(3):
        box = (await iserver.features({"Box": {"product": "a"}}))["Box"]
        assert list(box.items())[4:] == [("product", "a"), ("_impressionId", "imp-1"), ("text", "a")]
        assert box["impressionCount"] == 1


async def test_values_posted_later_are_told_from_then_on(open_iserver, shop, tmp_path):
    shop["features"]["Search"]["controls"]["results"][0]["value"] = {"external": "popularity"}
    (tmp_path / "shop.json").write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=tmp_path / "shop.json")
    search = {"Search": {"query": "shoes"}}
    for impression in ("imp-1", "imp-2", "imp-3"):
        assert "results" not in (await iserver.features(search, impression=impression))["Search"]
    posted = {"id": {"deviceId": "dev-1"}, "feature": "Search", "impressionId": "imp-1", "results": []}
    assert (await iserver.post("external", posted)).status == 200
    for impression in ("imp-4", "imp-5"):
        assert (await iserver.features(search, impression=impression))["Search"]["results"] == []


def test_ids_are_random_uuids():
    ids = {random_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {(uuid.UUID(made).version, uuid.UUID(made).variant) for made in ids} == {(4, uuid.RFC_4122)}
