"""What the daemons say of settings is true: those on which nothing depends are named, and protection is not feigned."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import metaserver
import replicaserver
from metaserver.settings import EFFECTIVE as OF_METASERVER
from replicaserver.settings import EFFECTIVE as OF_REPLICASERVER
from shared.errors import StartupError
from shared.pegasus.metrics import maintenance
from shared.pegasus.settings.flags import EFFECTIVE_EVERYWHERE, FlagError, Flags

NAMES_OF_OTHERS = {"cluster_root", "hosts_list"}
"""Names in answers of the metaserver that settings have too."""


def strings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize(("package", "effective"), [(metaserver, OF_METASERVER), (replicaserver, OF_REPLICASERVER)])
def test_the_settings_that_are_said_to_act_are_those_that_the_code_reads(package, effective: Collection[str]):
    catalog = Flags().catalog
    root = Path(package.__file__).parent
    files = [file for file in root.rglob("*.py") if file != root / "settings.py"]
    read = {text for file in files for text in strings(file) if text in catalog} - NAMES_OF_OTHERS
    assert read | EFFECTIVE_EVERYWHERE == effective
    assert {text for text in strings(Path(maintenance.__file__)) if text in catalog} <= EFFECTIVE_EVERYWHERE


def test_a_setting_on_which_nothing_depends_is_described_so():
    flags = Flags({"hotkey_buckets_num": "41", "cluster_name": "c"}, {"cluster_name"})
    assert flags.describe("hotkey_buckets_num")["description"].endswith(" (nothing in this process depends on it)")
    assert "nothing" not in flags.describe("cluster_name")["description"]
    assert flags.without_effect == ["hotkey_buckets_num"]


@pytest.mark.parametrize(
    "name",
    [
        "enable_auth",
        "mandatory_auth",
        "enable_acl",
        "enable_ranger_acl",
        "enable_white_list",
        "enable_zookeeper_kerberos",
        "encrypt_data_at_rest",
    ],
)
def test_protection_that_there_is_not_cannot_be_switched_on(name: str):
    with pytest.raises(StartupError, match=f"setting '{name}' cannot be 'true': .* (not|cannot) "):
        Flags({name: "true"})
    assert Flags({name: "false"}).boolean(name) is False


def test_protection_that_there_is_not_cannot_be_switched_on_later():
    flags = Flags()
    with pytest.raises(FlagError, match="ERR_INVALID_PARAMETERS: clients cannot be authenticated"):
        flags.update("mandatory_auth", "true")
    assert flags.boolean("mandatory_auth") is False
