"""Metric entities and the answers of /metrics, with the entities of the conformance cases (protocol §7, §15)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pegasus.metrics.catalog import ENTITY_TYPES, Prototype, prototypes
from shared.pegasus.metrics.entities import Counter, Entity, Gauge, Percentile, Registry
from shared.pegasus.metrics.query import Identity, answer, prometheus

WHO = Identity(cluster="onebox", role="replica", host="node1.example", port=34801)


def gauge(name: str, value: float) -> Gauge:
    made = Gauge(Prototype("Gauge", name, "MilliSeconds", f"a gauge of {name}"))
    made.value = value
    return made


def counter(name: str, value: int) -> Counter:
    made = Counter(Prototype("Counter", name, "Requests", f"a counter of {name}"))
    made.value = value
    return made


@pytest.fixture
def registry() -> Registry:
    made = Registry("replica")
    for id, attributes in {
        "app_5": {"table": "test_app_5"},
        "app_6": {"table": "test_app_6"},
        "replica_5.0": {"table": "test_app_5", "partition": "5.0"},
        "replica_5.1": {"table": "test_app_5", "partition": "5.1"},
    }.items():
        type = "my_app" if id.startswith("app") else "my_replica"
        made.add(Entity(type, id, attributes, [gauge("a_gauge", 5), counter("a_counter", 7), gauge("a_ratio", 12.0)]))
    latency = Percentile(Prototype("Percentile", "a_latency", "NanoSeconds", "a latency"), kinds=("p95", "p99"))
    made.add(Entity("my_server", "server_116", {}, [latency]))
    return made


def ask(registry: Registry, method: str = "GET", **arguments: str) -> Any:
    status, body = answer(registry, method, arguments, WHO, now_ns=1_773_393_302_123_456_789)
    assert status == 200, body
    return json.loads(body)["entities"]


def ids(entities: list[dict[str, Any]]) -> set[str]:
    return {entity["id"] for entity in entities}


def test_an_answer_is_pretty_json_that_says_who_speaks(registry: Registry) -> None:
    status, body = answer(
        registry, "GET", {"ids": "app_5", "metrics": "a_counter", "detail": "true"}, WHO, 1_773_393_302_123_456_789
    )
    assert status == 200
    assert (
        body.decode()
        == """{
    "cluster": "onebox",
    "role": "replica",
    "host": "node1.example",
    "port": 34801,
    "timestamp_ns": 1773393302123456789,
    "entities": [
        {
            "type": "my_app",
            "id": "app_5",
            "attributes": {
                "table": "test_app_5"
            },
            "metrics": [
                {
                    "type": "Counter",
                    "name": "a_counter",
                    "unit": "Requests",
                    "desc": "a counter of a_counter",
                    "value": 7
                }
            ]
        }
    ]
}"""
    )


def test_a_cluster_without_name_is_unknown(registry: Registry) -> None:
    _, body = answer(registry, "GET", {}, Identity("", "meta", "h", 1), 1)
    assert json.loads(body)["cluster"] == "unknown"


def test_every_sample_is_later_than_the_one_before(registry: Registry) -> None:
    stamps = [json.loads(answer(registry, "GET", {}, WHO, 50)[1])["timestamp_ns"] for _ in range(3)]
    assert stamps == [50, 51, 52]


def test_integers_print_as_integers_and_doubles_as_doubles(registry: Registry) -> None:
    _, body = answer(registry, "GET", {"ids": "app_5"}, WHO, 1)
    assert b'"value": 5\n' in body
    assert b'"value": 12.0\n' in body


def test_a_brief_answer_has_names_and_values(registry: Registry) -> None:
    entities = ask(registry, types="my_app")
    assert ids(entities) == {"app_5", "app_6"}
    assert entities[0]["metrics"][0] == {"name": "a_gauge", "value": 5}


@pytest.mark.parametrize("only", [{"types": "x"}, {"ids": "x"}, {"metrics": "x"}, {"attributes": "table,x"}])
def test_a_filter_that_nothing_passes_gives_an_empty_list(registry: Registry, only: dict[str, str]) -> None:
    _, body = answer(registry, "GET", only, WHO, 1)
    assert b'"entities": []' in body


def test_one_matching_attribute_is_enough(registry: Registry) -> None:
    entities = ask(registry, attributes="table,test_app_5,partition,another")
    assert ids(entities) == {"app_5", "replica_5.0", "replica_5.1"}


def test_only_the_named_metrics_are_shown(registry: Registry) -> None:
    [entity] = ask(registry, ids="app_5", metrics="a_counter, a_ratio,,")
    assert [metric["name"] for metric in entity["metrics"]] == ["a_counter", "a_ratio"]


def test_names_of_metrics_that_there_are_not_are_not_kept(registry: Registry) -> None:
    assert ask(registry, metrics=",".join(f"none-{n}" for n in range(1000))) == []
    assert not any(entity.templates for entity in registry.entities())


def test_all_filters_must_pass(registry: Registry) -> None:
    # an equals sign belongs to the value: this is one list of three types
    entities = ask(registry, types="my_app,ids=replica_5.1,app_6", attributes="table,test_app_6", metrics="a_gauge")
    assert ids(entities) == {"app_6"}


def test_an_empty_list_does_not_filter(registry: Registry) -> None:
    assert len(ask(registry, types=",", ids="")) == 5


def test_chosen_fields_win_over_detail(registry: Registry) -> None:
    [entity] = ask(registry, ids="app_5", metrics="a_gauge", with_metric_fields="desc,name", detail="true")
    assert list(entity["metrics"][0]) == ["name", "desc"]


def test_no_chosen_field_means_all(registry: Registry) -> None:
    [entity] = ask(registry, ids="app_5", metrics="a_gauge", with_metric_fields="")
    assert list(entity["metrics"][0]) == ["type", "name", "unit", "desc", "value"]


def test_fields_that_a_metric_does_not_have_leave_it_empty(registry: Registry) -> None:
    [entity] = ask(registry, ids="app_5", metrics="a_gauge", with_metric_fields="colour")
    assert entity["metrics"] == [{}]


def test_a_percentile_shows_the_kinds_it_publishes(registry: Registry) -> None:
    [entity] = ask(registry, ids="server_116")
    assert list(entity["metrics"][0]) == ["name", "p95", "p99"]
    [entity] = ask(registry, ids="server_116", detail="true")
    assert list(entity["metrics"][0]) == ["type", "name", "unit", "desc", "p95", "p99"]


def test_an_error_repeats_the_bytes_that_it_is_about(registry: Registry):
    status, body = answer(registry, "GET", {"x": "\udc80\x1f"}, WHO, 0)
    assert (status, body) == (400, b'{\n    "error_message": "unknown field x=\x80\\u001F"\n}')


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("POST", {}, "please use 'GET' method while querying for metrics"),
        ("POST", {"x": "y"}, "please use 'GET' method while querying for metrics"),
        ("GET", {"invalid_field": "x"}, "unknown field invalid_field=x"),
        ("GET", {"detail": ""}, "the value of detail should be a boolean value, i.e. true or false"),
        ("GET", {"detail": "1"}, "the value of detail should be a boolean value, i.e. true or false"),
        (
            "GET",
            {"with_metric_fields": "name", "detail": "no"},
            "the value of detail should be a boolean value, i.e. true or false",
        ),
        (
            "GET",
            {"attributes": "table"},
            "the number of arguments for attributes should be even, "
            "since each attribute name always pairs with a value",
        ),
        (
            "GET",
            {"attributes": "table,a,b"},
            "the number of arguments for attributes should be even, "
            "since each attribute name always pairs with a value",
        ),
    ],
)
def test_a_wrong_request_is_answered_with_its_reason(
    registry: Registry, method: str, arguments: dict[str, str], message: str
) -> None:
    status, body = answer(registry, method, arguments, WHO, 1)
    assert status == 400
    assert body.decode() == '{\n    "error_message": "' + message + '"\n}'


def percentile() -> Percentile:
    return Percentile(Prototype("Percentile", "p", "NanoSeconds", ""))


@pytest.mark.parametrize("portion", [1, 7, 500, 5000])
def test_samples_may_come_in_portions(portion: int) -> None:
    alone, together = percentile(), percentile()
    samples = [number * 7919 % 10_007 for number in range(10_000)]
    for sample in samples:
        alone.observe(sample)
    for start in range(0, len(samples), portion):
        together.observe_all(samples[start : start + portion])
    assert alone.compute() and together.compute()
    assert alone.values() == together.values()


def test_percentiles_of_a_full_window_are_the_published_positions() -> None:
    metric = percentile()
    for sample in range(5000):  # the first 904 fall out of the window
        metric.observe(sample)
    assert metric.compute()
    assert metric.values() == {
        "p50": 904 + 2048,
        "p90": 904 + 3686,
        "p95": 904 + 3891,
        "p99": 904 + 4055,
        "p999": 904 + 4091,
    }


def test_a_percentile_without_samples_stays_zero() -> None:
    metric = percentile()
    assert not metric.compute()
    assert set(metric.values().values()) == {0}


def test_samples_show_only_after_the_next_computation() -> None:
    metric = percentile()
    metric.observe(9)
    assert metric.values()["p50"] == 0
    metric.compute()
    assert metric.values()["p50"] == 9
    assert not metric.compute()


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200))
def test_a_percentile_is_the_sample_at_its_position(samples: list[int]) -> None:
    metric = percentile()
    for sample in samples:
        metric.observe(sample)
    metric.compute()
    ordered = sorted(samples)
    assert metric.values()["p90"] == ordered[int(len(samples) * 0.9)]


def test_computing_goes_one_percentile_at_a_time(registry: Registry) -> None:
    replica = registry.replica(2, 0)
    replica.percentile("get_latency_ns").observe(1)
    replica.percentile("put_latency_ns").observe(1)
    assert len(list(registry.compute_percentiles())) == 2


def test_a_replica_that_comes_back_continues_its_counters() -> None:
    registry = Registry("replica")
    first = registry.replica(2, 0)
    first.counter("get_requests").value = 5
    registry.retire(first, now_s=100)
    assert registry.sweep(now_s=699, delay_s=600) == 0
    again = registry.replica(2, 0)
    assert again.counter("get_requests").value == 5
    assert registry.sweep(now_s=10_000, delay_s=600) == 0


def test_a_retired_entity_disappears_after_its_delay() -> None:
    registry = Registry("replica")
    registry.retire(registry.replica(2, 0), now_s=100)
    assert registry.sweep(now_s=700, delay_s=600) == 1
    assert registry.entities() == []
    assert registry.replica(2, 0).counter("get_requests").value == 0


def test_a_metric_is_asked_for_by_its_kind() -> None:
    entity = Registry("replica").replica(2, 0)
    with pytest.raises(TypeError, match="get_requests is a Counter, not a Gauge"):
        entity.gauge("get_requests")


def test_measured_gauges_are_refreshed_before_an_answer() -> None:
    registry = Registry("replica")
    keys = registry.replica(2, 0).gauge("rdb_estimated_keys")

    def measure(_is_asked_for: object) -> None:
        keys.value = 42

    registry.before_query.append(measure)
    [entity] = ask(registry, metrics="rdb_estimated_keys")
    assert entity["metrics"][0]["value"] == 42
    assert entity["attributes"] == {"partition_id": "0", "table_id": "2"}


def test_what_the_shell_and_the_collector_read_is_there() -> None:
    names = {prototype.name for prototype in prototypes("replica", "replica")}
    assert {"get_requests", "multi_put_bytes", "rdb_estimated_keys", "read_capacity_units", "get_latency_ns"} <= names
    assert len(names) == len(prototypes("replica", "replica"))
    server = {prototype.name for prototype in prototypes("server", "replica")}
    assert {"resident_mem_usage_mb", "primary_replicas"} <= server
    assert "alive_replica_servers" not in server
    assert "alive_replica_servers" in {prototype.name for prototype in prototypes("server", "meta")}


def test_every_metric_is_described() -> None:
    for type in ENTITY_TYPES:
        for prototype in (*prototypes(type, "meta"), *prototypes(type, "replica")):
            assert prototype.desc.startswith("The "), prototype
            assert prototype.unit.isalpha()
    described = {prototype.name: prototype.desc for prototype in prototypes("replica", "replica")}
    assert described["get_requests"] == "The number of GET requests"
    assert described["get_latency_ns"] == "The latency of GET requests"


def test_prometheus_text_names_every_metric_once_with_its_help() -> None:
    registry = Registry("replica")
    registry.replica(2, 0).counter("get_requests").value = 3
    registry.replica(2, 1)
    text = prometheus(registry, WHO)
    assert text.count("# TYPE pegasus_get_requests counter\n") == 1
    labels = 'cluster="onebox",role="replica",entity="replica",table_id="2",partition_id="0"'
    assert f"\npegasus_get_requests{{{labels}}} 3\n" in text
    assert f'\npegasus_get_latency_ns{{{labels},quantile="0.5"}} 0\n' in text
    assert "# TYPE pegasus_get_latency_ns summary\n" in text
