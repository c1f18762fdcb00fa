"""Who may do what (protocol §7), and the attacks of §9.5, each refused."""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from intake_server.auth.plugins import BaseAuth, Grant, KeyAuth, SecretAuth
from intake_server.serialization.control import pack
from tests.intake_server.conftest import Answer, Serve, Served

CATALOG = """
sources:
  public: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/public.txt'}}
  private: {driver: textfiles, metadata: {secret: true}, args: {urlpath: '{{ CATALOG_DIR }}/private.txt'}}
  sub: {driver: yaml_file_cat, args: {path: '{{ CATALOG_DIR }}/sub.yml'}}
"""
SUB = "sources: {inner: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/public.txt'}}}"
PARAMETERS = """
sources:
  e:
    driver: textfiles
    args: {urlpath: '{{ CATALOG_DIR }}/{{ name }}.txt'}
    parameters:
      name: {description: which, type: str, default: public}
  env:
    driver: textfiles
    args: {urlpath: '{{ CATALOG_DIR }}/{{ name }}.txt'}
    parameters:
      name: {description: which, type: str, default: 'env(INTAKE_TEST_NAME)'}
  shell:
    driver: textfiles
    args: {urlpath: '{{ CATALOG_DIR }}/{{ name }}.txt'}
    parameters:
      name: {description: which, type: str, default: 'shell(echo public)'}
  two:
    driver: textfiles
    args: {urlpath: '{{ CATALOG_DIR }}/{{ a }}{{ b }}/public.txt'}
    parameters:
      a: {description: first, type: str}
      b: {description: second, type: str}
"""


@pytest.fixture(autouse=True)
def data(folder: Path) -> None:
    (folder / "public.txt").write_text("public")
    (folder / "private.txt").write_text("private")
    (folder / "sub.yml").write_text(SUB)
    (folder.parent / "outside.txt").write_text("outside")


async def every_request(server: Served, source_id: str, headers: dict[str, str]) -> list[Answer]:
    return [
        await server.get("/v1/info", headers=headers),
        await server.get("/v1/source?name=public", headers=headers),
        await server.get("/v1/source?name=nope", headers=headers),
        await server.post({"action": "open", "name": "public"}, headers=headers),
        await server.post({"action": "open", "name": "nope"}, headers=headers),
        await server.post({"action": "search", "query": [["a"], {}]}, headers=headers),
        await server.post({"action": "read", "source_id": source_id, "partition": 0}, headers=headers),
        await server.post({"action": "bad"}, headers=headers),
        await server.post(b"not msgpack", headers=headers),
    ]


async def test_without_the_secret_every_request_is_forbidden_before_anything_is_looked_up(serve: Serve):
    server = await serve(CATALOG, plugin=SecretAuth("s3cret"))
    secret = {"intake-secret": "s3cret"}
    source_id = (await server.opened("public", headers=secret))["source_id"]
    for headers in ({}, {"intake-secret": "wrong"}, {"Intake-Secret": ""}):
        answers = await every_request(server, source_id, headers)
        assert {(answer.status, answer.reason) for answer in answers} == {(403, "Access forbidden")}
    answers = await every_request(server, source_id, {"INTAKE-SECRET": "s3cret"})
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 404, 200, 200, 400, 400]


async def test_the_secret_may_be_in_another_header(serve: Serve):
    server = await serve(CATALOG, plugin=SecretAuth("s3cret", key="x-mine"))
    assert (await server.get("/v1/info", headers={"X-Mine": "s3cret"})).status == 200


def keys() -> KeyAuth:
    digest = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("all", "some")}
    return KeyAuth(
        [
            Grant("all", digest["all"]),
            Grant("some", digest["some"], allow=("pub*", "sub"), deny=("sub.secret*",)),
            Grant("anonymous", None, allow=("public",)),
        ]
    )


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        ({}, ["public"]),
        ({"Authorization": "Bearer all"}, ["public", "private", "sub"]),
        ({"Authorization": "Bearer some"}, ["public", "sub"]),
        ({"Authorization": "Basic " + base64.b64encode(b"me:some").decode()}, ["public", "sub"]),
        ({"x-api-key": "some"}, ["public", "sub"]),
        ({"intake-secret": "some"}, ["public", "sub"]),
    ],
)
async def test_every_key_sees_what_its_lists_allow(serve: Serve, headers: dict[str, str], names: list[str]):
    server = await serve(CATALOG, plugin=keys())
    assert await server.names(headers=headers) == names


@pytest.mark.parametrize(
    "headers", [{"x-api-key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic !"}]
)
async def test_a_wrong_key_is_not_anonymous_but_forbidden(serve: Serve, headers: dict[str, str]):
    assert (await (await serve(CATALOG, plugin=keys())).get("/v1/info", headers=headers)).status == 403


async def test_a_key_holder_sees_what_callers_without_a_key_see_unless_it_is_denied(serve: Serve):
    digest = hashlib.sha256(b"k").hexdigest()
    anonymous = Grant("anonymous", None, allow=("public", "sub"))
    server = await serve(CATALOG, plugin=KeyAuth([Grant("k", digest, allow=("private",), deny=("sub",)), anonymous]))
    assert await server.names(headers={"x-api-key": "k"}) == ["public", "private"]
    assert (await server.open("public", headers={"x-api-key": "k"})).status == 200
    assert (await server.open("sub", headers={"x-api-key": "k"})).status == 403


async def test_an_id_is_no_capability(serve: Serve):
    server = await serve(CATALOG, plugin=keys())
    everything, some = {"x-api-key": "all"}, {"x-api-key": "some"}
    private = (await server.opened("private", headers=everything))["source_id"]
    sub = (await server.opened("sub", headers=everything))["source_id"]
    inner = (await server.opened("inner", source_id=sub, headers=everything))["source_id"]
    read = {"action": "read", "partition": 0}
    assert (await server.post({**read, "source_id": private}, headers=everything)).status == 200
    assert (await server.post({**read, "source_id": private}, headers=some)).status == 403
    assert (await server.post({**read, "source_id": inner}, headers=some)).status == 200
    assert (await server.post({**read, "source_id": inner})).status == 403
    assert (await server.get("/v1/info", source_id=sub)).status == 403
    assert (await server.open("inner", source_id=sub)).status == 403


async def test_denied_entries_can_be_made_to_look_missing(serve: Serve):
    server = await serve(CATALOG, plugin=keys(), hide_denied=True)
    assert (await server.open("private")).status == 404
    assert (await server.get("/v1/source?name=private")).status == 404


class Odd(BaseAuth):
    """A plugin of another package, as they are: it reads an entry's private metadata and raises when it likes."""

    def allow_connect(self, header: Any) -> bool:
        return bool(header["X-Who"])

    def allow_access(self, header: Any, source: Any, catalog: Any) -> bool:
        if header["x-who"] == "raiser":
            raise RuntimeError("no")
        assert source.describe()["name"] == source.name
        assert source.metadata == source._metadata
        assert isinstance(catalog.metadata, dict)
        return "secret" not in source._metadata


async def test_a_plugin_of_another_package_decides_and_its_failures_are_refusals(serve: Serve):
    server = await serve(CATALOG, plugin=Odd())
    assert (await server.get("/v1/info")).status == 403
    assert await server.names(headers={"x-who": "me"}) == ["public", "sub"]
    assert await server.names(headers={"x-who": "raiser"}) == []
    assert (await server.open("private", headers={"x-who": "me"})).status == 403


@pytest.mark.parametrize(
    "value",
    [
        "../outside",
        "x/../../outside",
        "/etc/hostname",
        "~root/x",
        "file:///etc/hostname",
        "http://127.0.0.1/x",
        "simplecache::file:///etc/hostname",
        "..\\outside",
        "x\x00y",
    ],
)
async def test_values_that_would_lead_out_of_the_folder_are_refused(serve: Serve, value: str):
    answer = await (await serve(PARAMETERS)).open("e", {"name": value})
    assert (answer.status, "folder" in answer.reason) == (400, True)


async def test_values_that_only_together_lead_out_of_the_folder_are_refused(serve: Serve):
    assert (await (await serve(PARAMETERS)).open("two", {"a": ".", "b": "."})).status == 400


async def test_the_operator_may_let_values_lead_anywhere(serve: Serve):
    server = await serve(PARAMETERS, confine_paths=False)
    assert (await server.open("e", {"name": "../outside"})).status == 200


@pytest.mark.parametrize(
    "value",
    [
        "{{ 1234*5678 }}",
        "{{ ''.__class__.__mro__ }}",
        "{% for x in range(9) %}{% endfor %}",
        "env(HOME)",
        "shell(touch {marker})",
    ],
)
async def test_values_are_never_rendered_or_run(serve: Serve, folder: Path, value: str):
    marker = folder / "marker"
    value = value.replace("{marker}", str(marker).replace("/", "_"))
    server = await serve(PARAMETERS, getshell=True)
    answer = await server.open("e", {"name": value})
    assert (answer.status, "7006652" in answer.reason, os.environ["HOME"] in answer.reason) == (400, False, False)
    assert not marker.exists()


async def test_the_authors_own_default_is_evaluated_on_the_server_when_it_comes_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("INTAKE_TEST_NAME", "public")
    server = await serve(PARAMETERS)
    assert (await server.open("env")).status == 200
    assert (await server.open("env", {"name": "env(INTAKE_TEST_NAME)"})).status == 200
    assert (await server.open("env", {"name": "env(HOME)"})).status == 400


async def test_the_authors_commands_run_only_if_the_operator_allows_them(serve: Serve):
    assert (await (await serve(PARAMETERS)).open("shell")).status == 400
    assert (await (await serve(PARAMETERS, getshell=True)).open("shell")).status == 200


async def test_env_reads_only_the_variables_that_the_operator_lists(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INTAKE_TEST_NAME", "public")
    assert (await (await serve(PARAMETERS, env_names=frozenset({"OTHER"}))).open("env")).status == 400
    assert (await (await serve(PARAMETERS, env_names=frozenset({"INTAKE_TEST_NAME"}))).open("env")).status == 200
    assert (await (await serve(PARAMETERS, getenv=False)).open("env")).status == 400


@pytest.mark.parametrize(
    "argument", ["urlpath", "decoder", "storage_options", "text_encoding", "CATALOG_DIR", "metadata"]
)
async def test_callers_cannot_give_arguments_of_drivers(serve: Serve, argument: str):
    answer = await (await serve(PARAMETERS)).open("e", {argument: "os.system"})
    assert (answer.status, "unknown parameter" in answer.reason) == (400, True)


async def test_the_operator_may_let_callers_give_one_argument_of_one_entry(serve: Serve, folder: Path):
    server = await serve(PARAMETERS, overrides={"e": frozenset({"text_encoding"})})
    assert (await server.open("e", {"text_encoding": "latin-1"})).status == 200
    assert (await server.open("env", {"text_encoding": "latin-1"})).status == 400
    assert (await server.open("e", {"decoder": "os.system"})).status == 400


@pytest.mark.parametrize("template", ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ 1/0 }}", "{{ x"])
async def test_templates_of_catalogs_run_in_a_sandbox(serve: Serve, template: str):
    server = await serve(f'sources: {{e: {{driver: textfiles, args: {{urlpath: "{template}"}}}}}}')
    answer = await server.open("e")
    assert (answer.status, "template" in answer.reason) == (400, True)


async def test_the_functions_of_templates_give_nothing_away(serve: Serve):
    server = await serve("sources: {e: {driver: textfiles, args: {urlpath: 'x{{ env.__globals__ }}'}}}")
    answer = await server.open("e")
    assert (answer.status, "__builtins__" in answer.reason) == (400, False)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/nonexistent/never"),))


async def test_pickles_in_bodies_are_not_read(serve: Serve):
    server = await serve(PARAMETERS)
    assert (await server.post(pickle.dumps(Bomb()))).status == 400
    answer = await server.post({"action": "open", "name": "e", "parameters": {"name": pickle.dumps(Bomb())}})
    assert (answer.status, "expected str" in answer.reason) == (400, True)


async def test_other_servers_are_not_contacted_for_a_caller(serve: Serve):
    server = await serve("sources: {far: {driver: yaml_file_cat, args: {path: 'intake://169.254.169.254:80'}}}")
    answer = await server.open("far")
    assert (answer.status, "not followed" in answer.reason) == (400, True)


async def test_a_deep_message_is_refused(serve: Serve):
    message: Any = 1
    for _ in range(60):
        message = {"parameters": message}
    assert (
        await (await serve(PARAMETERS)).post(pack({"action": "open", "name": "e", "parameters": message}))
    ).status == 400
