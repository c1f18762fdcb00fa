"""From a visitor's impression to a DataFrame: iserver, its warehouse, intake_server and the real intake client."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.environments import client_python, run_client
from tests.processes import DaemonProcess, start_daemon

SHOP = Path(__file__).parents[2] / "iserver" / "example" / "shop.fdl"

READ = """
import json, sys
import dask, intake
dask.config.set({"dataframe.convert-string": False})  # else dask makes strings of the lists of events
catalog = intake.open_catalog(sys.argv[1])
frame = catalog.rating_box.read()
events = [len(events) if events is not None else 0 for events in frame["rating"]]
sessions = catalog.session.read()
print(json.dumps({
    "tables": sorted(set(catalog) & {"session", "rating_box", "product_info", "new_checkout", "search"}),
    "products": sorted(frame["product"]),
    "ratings": sum(events),
    "channels": sorted(sessions["channel"]),
}))
"""


def post(url: str, body: object) -> None:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def visit(iserver: DaemonProcess, device: str, product: str, stars: int) -> None:
    """One visitor sees the rating box of a product and rates it."""
    arguments = {"deviceId": device, "channel": "email"}
    requests = {"RatingBox": {"product": product}}
    post(f"{iserver.url}/features", {"args": arguments, "impressionId": f"imp-{device}", "requests": requests})
    rating = {"feature": "RatingBox", "event": "Rating", "impressionId": f"imp-{device}", "args": {"stars": stars}}
    post(f"{iserver.url}/signal", {"id": {"deviceId": device}, **rating})


@pytest.fixture
def iserver(tmp_path: Path) -> Iterator[DaemonProcess]:
    with start_daemon("iserver", "--fdl", SHOP, "--enable-cmd", "--data-dir", tmp_path / "iserver") as daemon:
        yield daemon


def read_with_intake(catalog: Path, data: Path) -> dict[str, object]:
    python = client_python("intake-0.7.0")
    with start_daemon("intake_server", "--data-dir", data, catalog) as server:
        return json.loads(run_client(python, READ, f"intake://127.0.0.1:{server.port}"))


def test_what_visitors_did_is_a_dataframe_of_the_intake_client(iserver: DaemonProcess, tmp_path: Path):
    for number, product in enumerate(("lamp", "kettle", "lamp")):
        visit(iserver, f"dev-{number}", product, stars=number + 1)
    post(f"{iserver.url}/cmd", {"action": "flushToWarehouse"})
    (catalog,) = tmp_path.rglob("catalog.yml")
    assert read_with_intake(catalog, tmp_path / "intake_server") == {
        "tables": ["new_checkout", "product_info", "rating_box", "search", "session"],
        "products": ["kettle", "lamp", "lamp"],
        "ratings": 3,
        "channels": ["email", "email", "email"],
    }


def test_what_was_acknowledged_before_kill_9_is_in_the_dataframe_once(iserver: DaemonProcess, tmp_path: Path):
    visit(iserver, "dev-1", "lamp", stars=5)
    iserver.kill()
    with start_daemon("iserver", "--fdl", SHOP, "--enable-cmd", "--data-dir", tmp_path / "iserver") as again:
        visit(again, "dev-2", "kettle", stars=1)
        post(f"{again.url}/cmd", {"action": "flushToWarehouse"})
        (catalog,) = tmp_path.rglob("catalog.yml")
        result = read_with_intake(catalog, tmp_path / "intake_server")
    assert (result["products"], result["ratings"]) == (["kettle", "lamp"], 2)
