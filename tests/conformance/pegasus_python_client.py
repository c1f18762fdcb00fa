"""Run in the environment of pypegasus3: uses a table as its documentation shows, and prints what it got as JSON."""

from __future__ import annotations

import json
import sys

from pypegasus.pgclient import Pegasus
from pypegasus.rrdb.ttypes import filter_type
from pypegasus.utils.tools import MultiGetOptions
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks

results = {}


def text(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {text(key): text(item) for key, item in sorted(value.items())}
    return value


@inlineCallbacks
def use(meta, table):
    client = Pegasus([meta], table, timeout=10000)
    try:
        results["init"] = yield client.init()

        def note(name, answer):
            results[name] = [answer[0], text(answer[1])]

        note("get nothing", (yield client.get(b"absent", b"k")))
        note("set", (yield client.set(b"hash", b"sort", b"value", 3600)))
        note("get", (yield client.get(b"hash", b"sort")))
        note("exist", (yield client.exist(b"hash", b"sort")))
        note("not exist", (yield client.exist(b"hash", b"other")))
        note("ttl", (yield client.ttl(b"hash", b"sort")))
        note("set for ever", (yield client.set(b"hash", b"for ever", b"v")))
        note("ttl for ever", (yield client.ttl(b"hash", b"for ever")))
        note("empty hash key", (yield client.set(b"", b"sort only", b"v2")))
        note("get by sort key", (yield client.get(b"", b"sort only")))
        rows = {f"k{number:02}": f"v{number}" for number in range(20)}  # it calls str() on keys and values
        note("multi_set", (yield client.multi_set(b"many", rows)))
        note("sort_key_count", (yield client.sort_key_count(b"many")))
        note("multi_get", (yield client.multi_get(b"many", {"k03", "k05", "no"})))
        note("multi_get all", (yield client.multi_get(b"many", set())))
        note("multi_get limited", (yield client.multi_get(b"many", set(), max_kv_count=3)))
        options = MultiGetOptions()
        options.sortkey_filter_type = filter_type.FT_MATCH_PREFIX
        options.sortkey_filter_pattern = b"k1"
        options.stop_inclusive = True
        note("multi_get_opt", (yield client.multi_get_opt(b"many", b"k08", b"k11", options)))
        note("get_sort_keys", (yield client.get_sort_keys(b"many", max_kv_count=2)))
        note("remove", (yield client.remove(b"many", b"k00")))
        note("get removed", (yield client.get(b"many", b"k00")))
        note("multi_del", (yield client.multi_del(b"many", {"k01", "k02"})))
        note("sort_key_count after", (yield client.sort_key_count(b"many")))
        many = []
        for number in range(200):
            many.append((yield client.set(b"user%d" % number, b"", b"%d" % number)))
        results["200 sets"] = sorted({answer[0] for answer in many})
        found = []
        for number in range(200):
            found.append((yield client.get(b"user%d" % number, b"")))
        results["200 gets"] = [text(value) for _, value in found] == [str(number) for number in range(200)]
    finally:
        client.close()
        reactor.stop()


reactor.callWhenRunning(use, sys.argv[1], sys.argv[2])
reactor.run()
print(json.dumps(results))
