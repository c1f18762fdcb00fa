"""A cluster that speaks TLS: both daemons, the client, the sub-commands and HTTP, with an authority of its own."""

from __future__ import annotations

import json
import ssl
import urllib.request

import pytest
import trustme

from shared.pegasus.client import PegasusClient
from shared.pegasus.wire.errors import RpcError
from tests.processes import run_command, start_daemon


class Cluster:
    def __init__(self, meta, replica, authority):
        self.meta, self.replica, self.authority = meta, replica, authority
        self.address = meta.url.removeprefix("https://")

    @property
    def trust(self):
        return ssl.create_default_context(cafile=self.authority)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """A folder with an authority, and a certificate of 127.0.0.1 with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def cluster(certified, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    tls = ("--tls-cert", certified / "server.pem", "--tls-ca", certified / "ca.pem")
    with start_daemon("metaserver", "--data-dir", folder / "meta", *tls) as meta:
        address = meta.url.removeprefix("https://")
        with start_daemon("replicaserver", "--data-dir", folder / "replica", "--meta", address, *tls) as replica:
            yield Cluster(meta, replica, certified / "ca.pem")
            assert replica.terminate() == 0
        assert meta.terminate() == 0


async def test_rows_are_written_and_read_over_tls(cluster):
    async with PegasusClient([cluster.address], timeout_s=60, tls=cluster.trust) as client:
        table = await client.table("temp")
        await table.put(b"user-1", b"name", b"Ada" * 100_000)
        assert await table.get(b"user-1", b"name") == b"Ada" * 100_000


def test_http_is_answered_over_tls(cluster):
    with urllib.request.urlopen(f"{cluster.meta.url}/meta/cluster", timeout=10, context=cluster.trust) as answer:
        assert json.load(answer)["meta_function_level"] == "steady"


def test_commands_ask_over_tls(cluster):
    done = run_command("metaserver", "nodes", "--meta", cluster.address, "--tls-ca", cluster.authority, "--json")
    assert [node["node"] for node in json.loads(done.stdout)] == [cluster.replica.url.removeprefix("https://")]


def test_a_command_without_tls_is_told_why_it_has_no_answer(cluster):
    done = run_command("metaserver", "nodes", "--meta", cluster.address)
    assert done.returncode == 1
    assert "a server with a TLS certificate does that when it is asked without TLS" in done.stderr
    cluster.meta.wait_for_log("the client does not speak TLS")


async def test_a_server_that_nobody_has_certified_is_not_trusted(cluster):
    async with PegasusClient([cluster.address], tls=ssl.create_default_context()) as client:
        with pytest.raises(RpcError, match="no TLS connection: its certificate is not valid"):
            await client.table("temp")


async def test_a_server_without_tls_is_not_taken_for_one_with(tmp_path, certified):
    with start_daemon("metaserver", "--data-dir", tmp_path) as plain:
        trust = ssl.create_default_context(cafile=certified / "ca.pem")
        async with PegasusClient([plain.url.removeprefix("http://")], timeout_s=2, tls=trust) as client:
            with pytest.raises(RpcError, match="no TLS connection"):
                await client.table("temp")


@pytest.mark.parametrize("daemon", ["metaserver", "replicaserver"])
@pytest.mark.parametrize(("given", "missing"), [("--tls-cert", "--tls-ca"), ("--tls-ca", "--tls-cert")])
def test_a_server_speaks_tls_in_both_directions_or_not_at_all(daemon, given, missing, certified, tmp_path):
    done = run_command(daemon, "start", "--port", "0", "--data-dir", tmp_path, given, certified / "server.pem")
    assert done.returncode == 2
    assert f"{given} needs {missing}" in done.stderr


def test_an_authority_without_certificates_stops_the_start(certified, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    tls = ("--tls-cert", certified / "server.pem", "--tls-ca", empty)
    done = run_command("metaserver", "start", "--port", "0", "--data-dir", tmp_path, *tls)
    assert (done.returncode, f"cannot use the TLS certificates {empty}" in done.stderr) == (1, True)
