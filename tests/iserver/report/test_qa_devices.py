"""QA devices and the experiment report, from request to report."""

from __future__ import annotations

import orjson

from iserver.report.warehouse_tables import ReportWarehouse


async def test_a_device_with_a_forced_variant_is_in_no_report(open_iserver, shop, tmp_path):
    (experiment,) = [item for item in shop["experiments"] if item["name"] == "Button copy"]
    forced = experiment["variants"][1]["id"]
    shop["qa"] = {"devices": [{"persistentId": f"qa-{n}", "variants": {experiment["id"]: forced}} for n in range(8)]}
    config = tmp_path / "qa.json"
    config.write_bytes(orjson.dumps(shop))
    iserver = await open_iserver(config_file=config)
    for device in [*(f"qa-{number}" for number in range(8)), "dev-1", "dev-2"]:
        answer = await iserver.features({"RatingBox": {"product": "p"}}, args={"deviceId": device})
        assert (forced in str(answer["_variants"])) or not device.startswith("qa")
    await iserver.post("cmd", {"action": "flushToWarehouse"})
    warehouse = ReportWarehouse(str(tmp_path / "data" / "warehouse"))
    (reported,) = [item for item in warehouse.experiments() if item.id == experiment["id"]]
    assert sum(warehouse.expose(reported).counts.values()) == 2
