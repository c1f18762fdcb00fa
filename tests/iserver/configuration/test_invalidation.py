"""What registered devices must drop when the configuration changes (protocol §9.4)."""

from __future__ import annotations

import copy

import orjson
import pytest

from iserver.configuration.compiled import configure
from iserver.configuration.invalidation import Flush, flushes
from iserver.document import read_document
from iserver.fdl import compile_program


def configured(document):
    read = read_document(orjson.dumps(document))
    return configure(read, compile_program(read.fdl))


def after(shop, change):
    changed = copy.deepcopy(shop)
    change(changed)
    return flushes(configured(shop), configured(changed))


def set_audience(document):
    document["audiences"][0]["definition"]["value"] = "free"


@pytest.mark.parametrize(
    ("change", "features"),
    [
        (lambda d: d.update(revision="r43"), None),
        (lambda d: d["features"]["NewCheckout"]["gate"].update(percent=50), ("NewCheckout",)),
        (lambda d: d["features"].pop("Search"), ("Search",)),
        (lambda d: d["experiments"][0].update(percent=50), ("RatingBox",)),
        (lambda d: d["experiments"].pop(1), ("Search",)),
        (set_audience, ("RatingBox",)),
        (lambda d: d["qa"]["devices"][0]["overrides"].clear(), ("RatingBox",)),
        (
            lambda d: d["qa"]["devices"][0].update(variants={"e1a7c0de-0000-4000-8000-000000000002": "v0000002"}),
            ("Search",),
        ),
    ],
)
def test_only_what_changed_is_dropped(shop, change, features):
    assert after(shop, change) == ([] if features is None else [Flush("dev-qa", features)])


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["fdl"][0].update(content=d["fdl"][0]["content"] + "feature Another {}"),
        lambda d: d["environment"].update(name="staging"),
        lambda d: d["qa"]["devices"][0].update(flushTime=1),
    ],
)
def test_everything_is_dropped_when_anything_may_have_changed(shop, change):
    assert after(shop, change) == [Flush("dev-qa", None)]


def test_a_comment_in_the_fdl_changes_nothing(shop):
    assert after(shop, lambda d: d["fdl"][0].update(content="# hello\n" + d["fdl"][0]["content"])) == []


def test_devices_that_come_or_go_are_flushed_and_others_are_not(shop):
    def replace(document):
        document["qa"]["devices"].append({"persistentId": "dev-new"})

    assert after(shop, replace) == [Flush("dev-new", None)]
    assert after(shop, lambda d: d["qa"]["devices"].clear()) == [Flush("dev-qa", None)]
