"""The catalog driver `sql_cat` of intake-sql 0.4.0 on our server, read by the real client."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from tests.conformance.environments import client_python, run_client
from tests.processes import start_daemon

CATALOG = """
sources:
  db: {{driver: sql_cat, args: {{uri: 'sqlite:///{folder}/x.db'}}}}
  chosen:
    driver: sql
    args: {{uri: 'sqlite:///{folder}/x.db', sql_expr: "select * from plain where b = '{{{{ b }}}}'"}}
    parameters: {{b: {{description: which, type: str, default: x}}}}
"""
SCRIPT = """
import json, sys
import intake
catalog = intake.open_catalog(sys.argv[1])
def refused(action):
    try:
        action()
    except Exception as error:
        return str(error)
print(json.dumps({
    "tables": list(catalog.db), "plain": catalog.db.plain.read().values.tolist(),
    "keyed": catalog.db.keyed.read().reset_index().values.tolist(),
    "dotted": catalog["db.plain"].read().shape, "chosen": catalog.chosen(b="y").read().values.tolist(),
    "injected": refused(lambda: catalog.chosen(b="y' or '1'='1")),
}))
"""
APPENDED = "import sys; sys.path.append({!r})\n"


def test_the_tables_of_a_database_are_a_catalog(tmp_path: Path):
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("create table plain(a int, b text)")
        database.executemany("insert into plain values (?, ?)", [(1, "x"), (2, "y")])
        database.execute("create table keyed(id integer primary key, v real)")
        database.executemany("insert into keyed values (?, ?)", [(1, 0.5), (2, 1.5)])
    (tmp_path / "c.yml").write_text(CATALOG.format(folder=tmp_path))
    python = client_python("intake-sql")
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    (tmp_path / "sitecustomize.py").write_text(APPENDED.format(str(packages)))  # behind the server's own packages
    daemon = start_daemon(
        "intake_server", "--data-dir", tmp_path / "data", tmp_path / "c.yml", env={"PYTHONPATH": str(tmp_path)}
    )
    with daemon:
        answer = json.loads(run_client(python, SCRIPT, f"intake://127.0.0.1:{daemon.port}").splitlines()[-1])
    assert sorted(answer["tables"]) == ["keyed", "plain"]
    assert answer["plain"] == [[1, "x"], [2, "y"]]
    assert answer["keyed"] == [[1, 0.5], [2, 1.5]]
    assert (answer["dotted"], answer["chosen"]) == ([2, 2], [[2, "y"]])
    assert "could change the statement" in answer["injected"]
