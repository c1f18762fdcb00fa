"""What JavaScript clients do with REST and the stream, under Node (protocol §4, §7.2).

csp-gateway's own JavaScript package is not in the npm registry; this does what its user interface asks of REST, and
speaks the stream through `ws`, the WebSocket client of most Node programs, which offers compression as browsers do.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.conformance.iserver_clients import node_ws
from tests.processes import start_daemon
from tests.requires import program

WS = "ws@8"
SCRIPT = """
import WebSocket from "ws";
const base = process.argv[2];
const get = async (path, options) => (await fetch(base + path, options)).json();
const found = {};

const openapi = await get("/openapi.json");
found.info = openapi.info;
found.graph = "/channels_graph" in openapi.paths;
found.ui = await get("/ui-config");
const headers = { "content-type": "application/json" };
found.sent = await get("/api/v1/send/example", { method: "POST", headers, body: JSON.stringify({ x: 1, y: "js" }) });
found.last = await get("/api/v1/last/basket/A");
const query = encodeURIComponent(JSON.stringify({ filters: [{ attr: "y", by: { value: "js", where: "==" } }] }));
found.state = await get(`/api/v1/state/example?query=${query}`);
const refused = await fetch(base + "/api/v1/send/example", { method: "POST", headers, body: '{"x": -1}' });
found.refused = [refused.status, (await refused.json()).detail[0].msg];

found.messages = await new Promise((resolve, reject) => {
  const messages = [];
  const socket = new WebSocket(base.replace("http", "ws") + "/api/v1/stream", { perMessageDeflate: true });
  const say = (action) => socket.send(JSON.stringify(action));
  socket.onerror = (event) => reject(event.error);
  socket.onopen = () => {
    found.extensions = socket.extensions;
    say({ action: "subscribe", channel: "example" });
    say({ action: "subscribe", channel: "basket", key: "A" });
    say({ action: "subscribe", channel: "heartbeat" });
    say({ action: "send", channel: "example", data: [{ x: 2, y: "stream" }, { x: 3, y: "ü€" }] });
    say({ action: "send", channel: "basket", key: "A", data: { x: 4 } });
  };
  socket.onmessage = (event) => {
    messages.push(JSON.parse(event.data));
    if (messages.at(-1).channel !== "heartbeat") return;
    say({ action: "unsubscribe", channel: "basket" });
    socket.onclose = (closed) => resolve(messages);
    socket.close();
  };
});
found.shutdown = await get("/api/v1/controls/shutdown", { method: "POST" });
console.log(JSON.stringify(found));
"""


def test_a_javascript_client_reads_sends_and_streams(tmp_path: Path):
    script = tmp_path / "client.mjs"
    script.write_text(SCRIPT)
    (tmp_path / "node_modules").symlink_to(node_ws() / "node_modules")
    with start_daemon("gateway", "--set", "modules=[]") as daemon:
        command = [program("node", "nodejs"), script, daemon.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert daemon.wait() == 0
    assert (found["info"]["title"], found["info"]["contact"]["email"]) == ("Gateway", "example@domain.com")
    assert found["info"]["version"]
    assert found["graph"] is True
    assert found["ui"]["title"] == "Gateway"
    assert found["sent"] == found["state"]
    assert found["last"] == []
    assert found["refused"][0] == 422
    assert "value must be non-negative." in found["refused"][1]
    ticks = [(each["channel"], each.get("key"), each["data"][0]["x"]) for each in found["messages"][:-1]]
    assert ticks == [("example", None, 2), ("example", None, 3), ("basket", "A", 4)]
    assert found["messages"][1]["data"][0]["y"] == "ü€"
    assert found["messages"][-1] == {"channel": "heartbeat", "data": "PING"}
    assert found["shutdown"][0]["name"] == "shutdown"
