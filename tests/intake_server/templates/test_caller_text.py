"""What callers send is data for ever (protocol §9.5): every kind of value in every place where one can land."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from intake_server.catalog.model import DriverChoice, Entry, Scope
from intake_server.catalog.parameters import Parameter, ParameterError
from intake_server.templates.caller_text import marked
from intake_server.templates.confinement import Misplaced, landed
from intake_server.templates.rendering import TemplateError, Templates
from intake_server.templates.resolution import Rules, resolve
from tests.intake_server.conftest import Serve, Served

HERE = "/srv/catalog/"


def rendered(template: Any, value: Any, kind: str = "str", *, argument: str = "urlpath", **more: Any) -> Any:
    """What becomes of an argument when a caller gives a value for the parameter ``p``."""
    declared = Parameter.declare("p", {"description": "d", "type": kind, **more})
    entry = Entry(
        name="e",
        drivers=(DriverChoice("csv", "csv"),),
        scope=Scope(HERE),
        arguments={argument: template},
        own_parameters=(declared,),
    )
    templates = Templates({"SECRET": "s3cret"}, lambda command: f"ran {command}")
    return resolve(entry, {"p": value}, templates, Rules(), lambda: datetime(2026, 11, 29)).arguments[argument]


COMPUTED: list[tuple[str, str, Any, str]] = [
    ("d/{{ '%02d' % p }}.csv", "int", 7, "d/07.csv"),
    ("d/{{ p + 1 }}.csv", "int", 7, "d/8.csv"),
    ("d/{{ '{:02d}'.format(p) }}.csv", "int", 7, "d/07.csv"),
    ("d/{{ '{:.1f}'.format(p) }}.csv", "float", 2.25, "d/2.2.csv"),
    ("d/{{ '%s_%s' % (p, p) }}.csv", "str", "a", "d/a_a.csv"),
    ("d/{{ '%s/*.csv' | format(p) }}", "str", "a", "d/a/*.csv"),
    ("d/{{ p.strftime('%Y%m%d') }}.csv", "datetime", "2020-01-02", "d/20200102.csv"),
    ("d/{{ p.strftime('%Y/%m') }}/*.csv", "datetime", datetime(2020, 1, 2), "d/2020/01/*.csv"),
    ("d/{{ p.year }}-{{ p.day_of_year }}-q{{ p.quarter }}", "datetime", "2020-02-01", "d/2020-32-q1"),
    ("{{ p }}", "datetime", "2020-01-02", "2020-01-02 00:00:00"),
    ("{% for part in p %}{{ CATALOG_DIR }}{{ part }};{% endfor %}", "list", ["a", "b"], f"{HERE}a;{HERE}b;"),
    ("d/{{ p | join('-') }}", "list", ["a", "b"], "d/a-b"),
    ("d/{{ p[0] }}/{{ p | last }}/{{ p | length }}", "list", ["a", "b"], "d/a/b/2"),
    ("d/{{ p }}", "list", [1, 2], "d/[1, 2]"),
    ("d/{{ p['k'] }}/{{ p.k }}", "dict", {"k": "v"}, "d/v/v"),
    ("d/{{ p | upper }}/{{ p.lower() }}/{{ p | title }}/{{ p | trim }}", "str", "aB", "d/AB/ab/Ab/aB"),
    ("d/{{ p[:4] }}/{{ p[4:] }}/{{ p | replace('0', 'o') }}", "str", "202012", "d/2020/12/2o2o12"),
    ("d/{{ p.split('-')[1] }}/{{ p.split('-') | join('/') }}", "str", "2020-01", "d/01/2020/01"),
    ("d/{{ '%02d' % (p | int) }}/{{ p | float + 1 }}", "str", "7", "d/07/8.0"),
    ("d/{% if p == 'eu' %}europe/*{% else %}rest{% endif %}", "str", "eu", "d/europe/*"),
    ("d/{{ 'x' if p in ['a', 'b'] else 'y' }}{{ {'a': 1}[p] }}{{ 'b' in p }}", "str", "a", "d/x1False"),
    ("d/{{ 'yes' if p else 'no' }}", "bool", "false", "d/no"),
    ("{{ CATALOG_DIR ~ p ~ '_*.csv' }}", "str", "a", f"{HERE}a_*.csv"),
    ("{{ CATALOG_DIR + p + '_*.csv' }}", "str", "a", f"{HERE}a_*.csv"),
    ("d/{% for n in range(3) %}{{ n }}{% endfor %}{{ p }}", "str", "a", "d/012a"),
    ("{% set s = namespace(x='d/') %}{% set s.x = s.x ~ p %}{{ s.x }}", "str", "a", "d/a"),
    ("{% macro f(x) %}d/{{ x }}{% endmacro %}{{ f(p) }}", "str", "a", "d/a"),
    ("d/{{ p | default('all', true) }}.csv", "str", "é ü.v1-2_3", "d/é ü.v1-2_3.csv"),
    ("d/{{ unknown }}{{ p }}", "other", None, "d/"),
    ("d/{{ p | tojson }}", "str", "a", 'd/"a"'),
    ("path-{{ p }}", "str", "path-client", "path-path-client"),
]
"""Templates with the type and the value of their parameter, and what becomes of them; `tests/conformance` compares
them with the classic server."""

# What the classic server computes from a parameter goes on being computed, for other values than the default


@pytest.mark.parametrize(("template", "kind", "value", "result"), COMPUTED)
def test_templates_compute_with_values(template: str, kind: str, value: Any, result: str):
    assert rendered(template, value, kind) == result


def test_a_text_that_the_author_lists_as_allowed_is_the_authors():
    assert rendered("{{ p }}", "/srv/a/*.csv", allowed=["/srv/a/*.csv", "/srv/b/*.csv"]) == "/srv/a/*.csv"
    assert rendered("{{ p | join(',') }}", ["*"], "mlist", allowed=["*"]) == "*"


# What a caller sends leads nowhere that the author did not name

LEADING_OUT = ["../x", "a/../../x", "a\\..\\x", "x\0y", "x\ny", "a::file", "file:///etc/passwd", "http://h/"]
GLOBS = ["*", "a?", "[a-z]", "{x}", "**", "{field}"]
PLACES = [
    "{{ CATALOG_DIR }}/{{ p }}.csv",
    "{{ CATALOG_DIR ~ '/' ~ p ~ '.csv' }}",
    "{{ CATALOG_DIR }}/{{ '%s.csv' % p }}",
    "{{ CATALOG_DIR }}/{{ '{}.csv'.format(p) }}",
    "{{ CATALOG_DIR }}/{{ '%s.csv' | format(p) }}",
    "{{ CATALOG_DIR }}/{{ p | trim | replace('q', 'z') | string }}.csv",
    "{{ CATALOG_DIR }}/{% for c in p %}{{ c }}{% endfor %}.csv",
    "{{ CATALOG_DIR }}/{{ p | list | join }}.csv",
    "{{ CATALOG_DIR }}/{{ [p] | join('/') }}.csv",
    "{{ CATALOG_DIR }}/{{ [p] | map('string') | first }}.csv",
    "{{ CATALOG_DIR }}/{{ p[:1] ~ p[1:] }}.csv",
    "{{ CATALOG_DIR }}/{{ p[::-1] | reverse }}.csv",
    "{{ CATALOG_DIR }}/{{ p.join(['', '']) }}{{ p.encode().decode() }}.csv",
    "{{ CATALOG_DIR }}/{{ ''.join([p, '.csv']) }}",
    "{{ CATALOG_DIR }}/{{ p.center(1, '-') }}.csv",
    "{{ CATALOG_DIR }}/{{ {'a': p}['a'] }}.csv",
    "{% set q = p %}{{ CATALOG_DIR }}/{{ q }}.csv",
    "{% set q %}{{ p }}{% endset %}{{ CATALOG_DIR }}/{{ q }}.csv",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ CATALOG_DIR }}/{{ f(p) }}.csv",
    "{% filter lower %}{{ CATALOG_DIR }}/{{ p }}.csv{% endfilter %}",
    "{{ CATALOG_DIR }}/{{ cycler(p, p).next() }}.csv",
    "{{ CATALOG_DIR }}/{{ (p if p == p else '') }}.csv",
    "{{ CATALOG_DIR }}/{{ dict(a=p).a }}.csv",
    "{{ CATALOG_DIR }}/{{ p | e }}{{ p | default('x') }}.csv",
]


@pytest.mark.parametrize("value", LEADING_OUT + GLOBS)
@pytest.mark.parametrize("template", PLACES)
def test_no_value_leads_out_of_a_folder_or_matches_other_files(template: str, value: str):
    with pytest.raises(ParameterError, match="folder"):
        rendered(template, value)


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "~root/x", "file:///x", "http://h/x", "data/id.key", "x.csv", "data:,x"]
)
@pytest.mark.parametrize("template", ["{{ p }}", "{{ p }}.csv", "file://{{ p }}", "{{ p }}::{{ CATALOG_DIR }}x.zip"])
def test_a_value_is_never_a_whole_path(template: str, value: str):
    with pytest.raises(ParameterError):
        rendered(template, value)


@pytest.mark.parametrize(
    "value", ["@other", ".evil.com/", "x", ":81/", "?x", "#x", "\\@other/", "0", "/../x", "😀", "@evil.com:80/a"]
)
def test_a_value_behind_a_port_does_not_change_the_host(value: str):
    with pytest.raises(ParameterError, match=r"folder|host"):
        rendered("http://files.example:80{{ p }}", value)


@pytest.mark.parametrize("value", ["evil.com/", "evil.com#", "a@evil", "evil.com\\", "evil:80/", "a b", "é"])
@pytest.mark.parametrize("template", ["https://{{ p }}.data.example.com/x", "https://u:{{ p }}@example.com/x"])
def test_a_value_in_a_host_is_a_label_of_the_authors_domain(template: str, value: str):
    with pytest.raises(ParameterError):
        rendered(template, value)
    assert rendered(template, "eu-1") == template.replace("{{ p }}", "eu-1")


@pytest.mark.parametrize(
    "template", ["http://{{ p }}/x", "http://{{ p }}.com/x", "http://data.{{ p }}/", "ftp://a{{ p }}/"]
)
def test_a_value_is_never_a_host(template: str):
    with pytest.raises(ParameterError, match="host"):
        rendered(template, "evil")


def test_a_value_may_be_a_bucket():
    assert rendered("s3://{{ p }}/x.csv", "my.bucket-1") == "s3://my.bucket-1/x.csv"
    for other in ("a/../b", "a@b", "a?b", "a*", ".."):
        with pytest.raises(ParameterError):
            rendered("s3://{{ p }}/x.csv", other)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("a b", "a%20b"), ("a&admin=1", "a%26admin%3D1"), ("a#b", "a%23b"), ("a?b", "a%3Fb"), ("%2e%2e", "%252e%252e"),
        ("*[a]{b}", "%2A%5Ba%5D%7Bb%7D"), ("é", "%C3%A9"), ("a/b-c.d_e~f", "a/b-c.d_e~f"), ("x:y@z", "x%3Ay%40z"),
    ],
)  # fmt: skip
def test_in_a_url_a_value_is_escaped(value: str, sent: str):
    assert rendered("http://h.example/x/{{ p }}?y={{ p }}&z=1", value) == f"http://h.example/x/{sent}?y={sent}&z=1"
    once = rendered("http://h.example/x?y={{ p | urlencode }}", value)
    assert once == f"http://h.example/x?y={sent}"


def test_urlencode_does_not_make_a_value_the_authors():
    with pytest.raises(ParameterError):
        rendered("{{ CATALOG_DIR }}/{{ p | urlencode }}/x", "..")


@pytest.mark.parametrize("kind", ["list", "tuple", "mlist", "other"])
def test_texts_in_lists_are_confined(kind: str):
    with pytest.raises(ParameterError):
        rendered("{{ CATALOG_DIR }}/{{ p[0] }}", ["../x"], kind)
    with pytest.raises(ParameterError):
        rendered("{{ CATALOG_DIR }}/{{ p | join('/') }}", ["..", "..", "x"], kind)


@pytest.mark.parametrize("value", ["{'../x'}", "[{'../x'}]", "[('../x',)]", "[['../x']]", "[{'../x': 1}]"])
def test_texts_in_what_a_text_says_are_confined(value: str):
    for template in ("{{ p | first }}", "{{ p[0] | first }}", "{{ p | join('/') }}/{{ p }}"):
        try:
            path = rendered("{{ CATALOG_DIR }}/" + template, value, "list")
        except (ParameterError, TemplateError):
            continue
        assert ".." not in path.split("/")


@pytest.mark.parametrize(
    ("kind", "value"), [("other", b"@evil/"), ("list", [b"@evil/"]), ("list", "[b'@evil/']"), ("dict", {"a": [b"x"]})]
)
def test_bytes_are_refused(kind: str, value: Any):
    with pytest.raises(ParameterError, match="found bytes"):
        rendered("http://files.example:80{{ p }}", value, kind)


@pytest.mark.parametrize(
    "value", [datetime(1, 1, 1), datetime(9999, 12, 31), "0001-01-01", "9999-12-31T23:59:59+14:00"]
)
def test_times_of_any_year_are_rendered(value: Any):
    assert rendered("d/{{ p.year }}", value, "datetime") == f"d/{str(value)[:4].lstrip('0')}"


@pytest.mark.parametrize("kind", ["dict", "other"])
def test_texts_in_maps_are_confined_keys_too(kind: str):
    for template in ("{{ p.a }}", "{{ p['a'] }}", "{% for k, v in p.items() %}{{ v }}{% endfor %}"):
        with pytest.raises(ParameterError):
            rendered("{{ CATALOG_DIR }}/" + template, {"a": "../x"}, kind)
    with pytest.raises(ParameterError):
        rendered("{{ CATALOG_DIR }}/{{ p | first }}", {"../x": 1}, kind)


def test_the_message_names_the_parameter_and_what_is_wrong():
    with pytest.raises(ParameterError, match=r"^parameter 'p': '\*' would match other files"):
        rendered("{{ CATALOG_DIR }}/{{ p }}.csv", "*")


# An argument with the name of a parameter


@pytest.mark.parametrize("value", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/", "../x", "x.csv", "*"])
@pytest.mark.parametrize("argument", ["urlpath", "path", "of_another_package"])
def test_a_parameter_named_like_its_argument_does_not_replace_a_path(argument: str, value: str):
    declared = Parameter.declare(argument, {"description": "d", "type": "str"})
    choice = (DriverChoice("x", "x"),)
    entry = Entry("e", choice, Scope(HERE), arguments={argument: "{{ CATALOG_DIR }}/a"}, own_parameters=(declared,))
    with pytest.raises(ParameterError):
        resolve(entry, {argument: value}, Templates(), Rules(), datetime.now)
    assert resolve(entry, {}, Templates(), Rules(), datetime.now).arguments == {argument: f"{HERE}a"}


def test_a_parameter_named_like_its_argument_is_part_of_what_the_template_says():
    assert rendered("d/{{ p }}.csv", "a", argument="p") == "d/a.csv"
    assert rendered("{{ p }}", 3, "int", argument="p") == 3
    assert rendered(5, "6", "int", argument="p") == 6
    with pytest.raises(ParameterError):
        rendered("{{ p }}", 4, "int", argument="p", max=3)


# Arguments that are no paths


def test_data_arguments_take_any_text():
    assert rendered({"sep": "{{ p }}"}, "/", argument="csv_kwargs") == {"sep": "/"}
    assert rendered(["{{ p }}", "b"], "../a", argument="columns") == ["../a", "b"]


@pytest.mark.parametrize("value", ["/etc/passwd", "http://h/", "../x", "~/x", "file:x"])
def test_other_arguments_take_no_text_that_leads_somewhere(value: str):
    with pytest.raises(ParameterError):
        rendered("{{ p }}", value, argument="anything")
    with pytest.raises(ParameterError):
        rendered({"client_kwargs": {"endpoint": "{{ p }}"}}, value, argument="storage_options")


def test_a_value_chooses_no_code_and_no_argument():
    with pytest.raises(ParameterError, match="code"):
        rendered("{{ p }}", "os.system", argument="decoder")
    with pytest.raises(ParameterError, match="name"):
        rendered({"{{ p }}": "x"}, "fo", argument="storage_options")


@pytest.mark.parametrize("value", ["1 or 1=1", "x'; drop table t", "x--", "a\\", "(select 1)"])
def test_a_value_stays_a_value_in_sql(value: str):
    with pytest.raises(ParameterError):
        rendered("select * from t where a = {{ p }}", value, argument="sql_expr")
    assert rendered("select * from t where a = '{{ p }}'", "Oslo (N) -- 1", argument="sql_expr").endswith("-- 1'")
    with pytest.raises(ParameterError):
        rendered("select * from t where a = '{{ p }}'", "x' or '1'='1", argument="sql_expr")


def test_a_part_of_a_store_is_inside_it():
    assert rendered("{{ p }}", "a/b", argument="component") == "a/b"
    for value in ("../a", "/a", "a/../../b"):
        with pytest.raises(ParameterError):
            rendered("{{ p }}", value, argument="component")


# env(), shell(), templates in values


@pytest.mark.parametrize(
    "template", ["d/{{ env(p) }}", "d/{{ shell(p) }}", "d/{{ client_env(p) }}", "d/{{ env('S' ~ p) }}"]
)
@pytest.mark.parametrize("value", ["SECRET", "ECRET"])
def test_a_value_is_never_looked_up_or_run(template: str, value: str):
    with pytest.raises(TemplateError, match="looked up or run"):
        rendered(template, value)


@pytest.mark.parametrize("value", ["env(SECRET)", "shell(id)", "client_env(HOME)", "{{ env('SECRET') }}", "{% raw %}"])
def test_a_value_that_looks_like_a_template_stays_as_it_is(value: str):
    assert rendered("{{ p }}", value, argument="title") == value


def test_characters_that_stand_for_marks_are_refused():
    with pytest.raises(ParameterError, match="private-use"):
        rendered("d/{{ p }}", "\U000f002e\U000f002e")


@pytest.mark.parametrize("value", [1, 2.5, True, None, datetime(2020, 1, 2)])
def test_values_without_text_land_anywhere(value: Any):
    assert landed("urlpath", value) == value


def test_marked_text_in_any_depth_becomes_plain_or_is_refused():
    value = {"a": [marked("x"), ("y", marked("z"))]}
    assert json.dumps(landed("anything", value)) == '{"a": ["x", ["y", "z"]]}'
    with pytest.raises(Misplaced):
        landed("urlpath", [["d/" + marked("..")]])


# The whole server

NESTED = """
metadata:
  parameters:
    bucket: {description: which folder, type: str, default: tenant1}
sources:
  nested: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/inner.yml'}}
"""
INNER = """
sources:
  e: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/{{ bucket }}/a.txt'}}
  echo: {driver: textfiles, direct_access: force, args: {urlpath: '{{ CATALOG_DIR }}/a.txt', title: '{{ bucket }}'}}
  deeper: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/inner.yml'}}
"""


@pytest.fixture
def tenants(folder: Path) -> Path:
    for name in ("tenant1", "tenant2"):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text(name)
    (folder / "inner.yml").write_text(INNER)
    (folder.parent / "a.txt").write_text("outside")
    return folder


async def in_nested(server: Served, bucket: str, *names: str) -> Any:
    source_id = (await server.opened("nested", {"bucket": bucket}))["source_id"]
    for name in names[:-1]:
        source_id = (await server.opened(name, source_id=source_id))["source_id"]
    return await server.post(
        {"action": "open", "name": names[-1], "available_plugins": ["textfiles"]}, source_id=source_id
    )


@pytest.mark.parametrize("way", [("e",), ("deeper", "e")])
async def test_a_value_for_a_nested_catalog_is_confined_in_its_entries(
    serve: Serve, tenants: Path, way: tuple[str, ...]
):
    server = await serve(NESTED)
    opened = (await in_nested(server, "tenant2", *way)).value
    assert (await server.read(opened["source_id"], 0)).value["data"].endswith(b"tenant2")
    for value in ("..", "../tenant1", "*", "tenant[12]", "/etc", "tenant1/../tenant2"):
        answer = await in_nested(server, value, *way)
        assert (answer.status, "bucket" in answer.reason) == (400, True)


@pytest.mark.parametrize("value", ["env(INTAKE_TEST_SECRET)", "shell(echo s3cret)", "{{ env('INTAKE_TEST_SECRET') }}"])
@pytest.mark.parametrize("way", [("echo",), ("deeper", "echo")])
async def test_a_value_for_a_nested_catalog_is_never_expanded(
    serve: Serve, tenants: Path, monkeypatch: pytest.MonkeyPatch, value: str, way: tuple[str, ...]
):
    monkeypatch.setenv("INTAKE_TEST_SECRET", "s3cret")
    server = await serve(NESTED, getshell=True)
    answer = await in_nested(server, value, *way)
    assert answer.value["args"]["title"] == value
    listed = await in_nested(server, value, *way)
    assert b"s3cret" not in listed.body.replace(value.encode(), b"")


async def test_a_member_of_a_store_that_is_named_like_a_template_is_a_name(serve: Serve, folder: Path):
    zarr = pytest.importorskip("zarr")
    store = zarr.open_group(folder / "s.zarr", mode="w")
    store.create_array("{{ 6 * 7 }}", shape=(2,), dtype="i4")[:] = 1
    server = await serve("sources: {s: {driver: zarr_cat, args: {urlpath: '{{ CATALOG_DIR }}/s.zarr'}}}")
    assert (await server.opened(["s", "{{ 6 * 7 }}"]))["shape"] == [2]


async def test_the_host_of_a_url_is_the_authors(serve: Serve, aiohttp_server: Any):
    async def other(_request: web.Request) -> web.Response:
        return web.Response(text="internal")

    app = web.Application()
    app.router.add_get("/{path:.*}", other)
    internal = await aiohttp_server(app)
    server = await serve(
        "sources: {e: {driver: textfiles, args: {urlpath: 'http://files.invalid:80{{ f }}'}, "
        "parameters: {f: {description: which, type: str, default: /x}}}}"
    )
    answer = await server.open("e", {"f": f"@127.0.0.1:{internal.port}/secret"})
    assert (answer.status, "host" in answer.reason) == (400, True)


async def test_a_datetime_entry_opens_for_every_day(serve: Serve, folder: Path):
    (folder / "20200102.txt").write_text("that day")
    server = await serve(
        """
        sources:
          e:
            driver: textfiles
            args: {urlpath: "{{ CATALOG_DIR }}/{{ day.strftime('%Y%m%d') }}.txt"}
            parameters:
              day: {description: which, type: datetime, default: '2020-01-01'}
        """
    )
    for day in (datetime(2020, 1, 2), "2020-01-02", "20200102"):
        assert (await server.data("e", parameters={"day": day})).endswith(b"that day")


async def test_more_than_64_kib_of_values_are_refused(serve: Serve, tenants: Path):
    answer = await (await serve(NESTED)).open("nested", {"bucket": "x" * 70_000})
    assert (answer.status, "expected at most 65536" in answer.reason) == (400, True)


async def test_characters_beyond_the_first_plane_that_the_author_wrote_stay_as_they_are(serve: Serve, folder: Path):
    private = "\U000f0041"  # what marks a caller's A
    (folder / f"{private}.csv").write_text("x\n1\n", encoding="utf-8")
    (folder / "A.csv").write_text("y\n1\n", encoding="utf-8")
    server = await serve(f"""
        sources:
          private: {{driver: csv, args: {{urlpath: '{{{{ CATALOG_DIR }}}}/{private}.csv'}}}}
          keys:
            driver: csv
            args: {{urlpath: '{{{{ CATALOG_DIR }}}}/A.csv', storage_options: {{"\U0001f600": 1}}}}
    """)
    assert (await server.opened("private"))["dtype"] == {"x": "int64"}
    assert (await server.open("keys")).reason != "parameter : cannot name what is in 'storage_options'"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'yes' if p in 'xab' else 'no' }}",
        "{{ 'yes' if 'abx'.startswith(p) else 'no' }}",
        "{{ 'yes' if 'xab'.endswith(p) else 'no' }}",
        "{{ 'yes' if 'xab'.find(p) == 1 else 'no' }}",
        "{{ 'yes' if 'abab'.count(p) == 2 else 'no' }}",
    ],
)
def test_the_authors_text_is_searched_for_what_the_caller_sent(template: str):
    assert rendered(template, "ab", argument="csv_kwargs") == "yes"
