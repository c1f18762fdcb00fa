"""What Redis does in one step for shared sessions: Lua scripts, each of which happens wholly or not at all.

Of a session there is a hash `s:ID` (epoch, owner, version, expiry, at which version and whose each of its last epochs
ended, and the definitions it uses), and a list `c:ID` of its changes. `p:DEVICE` and `k:NAME:VALUE` lead to ids, `due`
has the ids by the time at which they are over. `finished` is the queue to the warehouse, `batch` says how much of its
head is on its way.

A store names the epoch and the version it builds on. It is rejected when another server has begun a new epoch, and
it is recognised when it comes a second time because the answer to the first was lost, also after the epoch ended.
An epoch is a number and an owner: a replica that takes over may have missed an epoch, and give its number again.

`definitions` has FDL by fingerprint. Of each, `uses` counts the sessions in `s:`, `last` is how many sessions had ever
been queued when one that used it was, and `needed` is when a server last had it in force. `totals` counts what was
queued and what was written. Nothing refers to a definition any more when no session uses it, the queue is past `last`,
and no server has had it in force for a while; a session that uses one that is gone all the same is rejected.

What may fail for want of memory comes first in each script: Redis rejects nothing once a script has written.
Scripts that free memory are never rejected for that: they are how a full Redis gets empty.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

STORED, FENCED, UNKNOWN = b"stored", b"fenced", b"unknown"

_OUT = "#!lua flags=allow-oom\n"

_TAKE = """
local prefix, me = ARGV[1], ARGV[2]
local function take(id, force)
  local key = prefix .. 's:' .. id
  local is = redis.call('HMGET', key, 'epoch', 'version', 'owner')
  if not is[1] then return false end
  if is[3] == me and not force then return {id, is[1]} end
  local epoch = tonumber(is[1]) + 1
  redis.call('HSET', key, 'epoch', string.format('%.0f', epoch), 'owner', me, 'end:' .. is[1],
    (is[2] or '0') .. ' ' .. (is[3] or ''))
  redis.call('HDEL', key, string.format('end:%.0f', epoch - 32))
  return {id, string.format('%.0f', epoch), is[2] or '0', redis.call('LRANGE', prefix .. 'c:' .. id, 0, -1)}
end
"""

_FIND = """
local now, found, alive = tonumber(ARGV[3]), {}, false
for at = 4, #ARGV do
  local id = redis.call('GET', prefix .. ARGV[at])
  local taken = id and take(id, false) or false
  found[#found + 1] = taken
  if taken and tonumber(redis.call('HGET', prefix .. 's:' .. id, 'expiry') or 0) > now then
    alive = id
    break
  end
end
return {found, alive}
"""

_RECLAIM = """
local found = {}
for at = 3, #ARGV do
  found[#found + 1] = take(ARGV[at], true)
end
return found
"""

_DUE = """
local due, latest, some, begin = prefix .. 'due', ARGV[3], tonumber(ARGV[4]), 0
if ARGV[5] then
  local behind = ARGV[6] .. string.char(0)
  redis.call('ZADD', due, ARGV[5], behind)
  begin = redis.call('ZRANK', due, behind)
  redis.call('ZREM', due, behind)
end
local found, place = {}, {}
local ranked = redis.call('ZRANGE', due, begin, begin + some - 1, 'WITHSCORES')
for at = 1, #ranked, 2 do
  local id, score = ranked[at], ranked[at + 1]
  if latest ~= '' and tonumber(score) > tonumber(latest) then return {found, {}} end
  local taken = take(id, false)
  if taken then found[#found + 1] = taken else redis.call('ZREM', due, id) end
  place = {score, id}
end
if #ranked < 2 * some then place = {} end
return {found, place}
"""

_STORE = """
local prefix, me, now, is_again = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local parts, here, at = {}, {}, 5
while at <= #ARGV do
  local part = {id = ARGV[at], mode = ARGV[at + 1], epoch = ARGV[at + 2], version = tonumber(ARGV[at + 3]),
    expiry = ARGV[at + 4], due = ARGV[at + 5], changes = ARGV[at + 6], keys = {}}
  local count = tonumber(ARGV[at + 7])
  for number = 1, count do part.keys[number] = ARGV[at + 7 + number] end
  at = at + 8 + count
  count, part.uses = tonumber(ARGV[at]), {}
  for number = 1, count do part.uses[number] = ARGV[at + number] end
  parts[#parts + 1], here[part.id], at = part, true, at + 1 + count
end
local known = 0
for _, part in ipairs(parts) do
  local is = redis.call('HMGET', prefix .. 's:' .. part.id, 'epoch', 'version', 'owner', 'end:' .. part.epoch)
  local ended, owner = string.match(is[4] or '', '^(%d+) (.*)$')
  if not is[1] then
    if part.mode ~= 'create' then return is_again and 'unknown' or 'fenced' end
    if redis.call('EXISTS', prefix .. 'gone:' .. part.id) == 1 then return 'unknown' end
    local other = redis.call('GET', prefix .. part.keys[1])
    if other and not here[other] then
      local expiry = redis.call('HGET', prefix .. 's:' .. other, 'expiry')
      if expiry and tonumber(expiry) > now then return 'fenced' end
    end
  elseif is[1] == part.epoch and is[3] == me then
    if tonumber(is[2]) > part.version then known = known + 1
    elseif tonumber(is[2]) < part.version then return 'fenced' end
  elseif owner == me then
    if tonumber(ended) <= part.version then return 'fenced' end
    known = known + 1
  else
    return is_again and 'unknown' or 'fenced'
  end
end
if known == #parts then return 'stored' end
if known > 0 then return 'unknown' end
for _, part in ipairs(parts) do
  for _, used in ipairs(part.uses) do
    if redis.call('HEXISTS', prefix .. 'definitions', used) == 0 then return 'undefined' end
  end
end
for _, part in ipairs(parts) do
  local changes = prefix .. 'c:' .. part.id
  if part.changes ~= '' then redis.call('RPUSH', changes, part.changes) end
  if part.mode == 'rewrite' then redis.call('LTRIM', changes, -1, -1) end
  redis.call('HSET', prefix .. 's:' .. part.id, 'epoch', part.epoch, 'owner', me,
    'version', string.format('%.0f', part.version + 1), 'expiry', part.expiry)
  for _, used in ipairs(part.uses) do
    if redis.call('HSETNX', prefix .. 's:' .. part.id, 'use:' .. used, '') == 1 then
      redis.call('HINCRBY', prefix .. 'uses', used, 1)
    end
  end
  redis.call('ZADD', prefix .. 'due', part.due, part.id)
  for _, key in ipairs(part.keys) do redis.call('SET', prefix .. key, part.id) end
end
return 'stored'
"""

_FINISH = """
local prefix, me, id, epoch, version, finished = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local is = redis.call('HMGET', prefix .. 's:' .. id, 'epoch', 'version', 'owner')
if not is[1] then return 'stored' end
if is[1] ~= epoch or is[2] ~= version or is[3] ~= me then return 'fenced' end
redis.call('SET', prefix .. 'gone:' .. id, '1', 'EX', 300)
if finished ~= '' then
  redis.call('RPUSH', prefix .. 'finished', finished)
  redis.call('HINCRBY', prefix .. 'totals', 'queued', 1)
end
local queued = redis.call('HGET', prefix .. 'totals', 'queued') or '0'
for _, name in ipairs(redis.call('HKEYS', prefix .. 's:' .. id)) do
  local used = string.match(name, '^use:(.*)$')
  if used then
    redis.call('HINCRBY', prefix .. 'uses', used, -1)
    redis.call('HSET', prefix .. 'last', used, queued)
  end
end
for at = 7, #ARGV do
  local key = prefix .. ARGV[at]
  if redis.call('GET', key) == id then redis.call('DEL', key) end
end
redis.call('DEL', prefix .. 's:' .. id, prefix .. 'c:' .. id)
redis.call('ZREM', prefix .. 'due', id)
return 'stored'
"""

_KEEP = """
local prefix, fingerprint, now = ARGV[1], ARGV[2], redis.call('TIME')[1]
redis.call('HSETNX', prefix .. 'definitions', fingerprint, ARGV[3])
redis.call('ZADD', prefix .. 'needed', now, fingerprint)
return 1
"""

_LOOK = """
local prefix, needed, now = ARGV[1], ARGV[2], tonumber(redis.call('TIME')[1])
local is_there = redis.call('HEXISTS', prefix .. 'definitions', needed)
if is_there == 1 then redis.call('ZADD', prefix .. 'needed', now, needed) end
local written = tonumber(redis.call('HGET', prefix .. 'totals', 'written') or 0)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'needed', '-inf', now - tonumber(ARGV[3]))) do
  local uses = tonumber(redis.call('HGET', prefix .. 'uses', old) or 0)
  if old ~= needed and uses == 0 and tonumber(redis.call('HGET', prefix .. 'last', old) or 0) <= written then
    redis.call('HDEL', prefix .. 'definitions', old)
    redis.call('HDEL', prefix .. 'uses', old)
    redis.call('HDEL', prefix .. 'last', old)
    redis.call('ZREM', prefix .. 'needed', old)
  end
end
return {redis.call('LLEN', prefix .. 'finished'), is_there}
"""

_HOLD = """
local holder = redis.call('GET', ARGV[1] .. 'writer')
if holder and holder ~= ARGV[2] then return 0 end
redis.call('SET', ARGV[1] .. 'writer', ARGV[2], 'PX', ARGV[3])
return 1
"""

_RELEASE = """
if redis.call('GET', ARGV[1] .. 'writer') == ARGV[2] then redis.call('DEL', ARGV[1] .. 'writer') end
return 1
"""

_BATCH = """
local prefix, me, id, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('GET', prefix .. 'writer') ~= me then return false end
local batch = redis.call('HMGET', prefix .. 'batch', 'id', 'sessions')
if batch[1] then return batch end
local sessions = math.min(limit, redis.call('LLEN', prefix .. 'finished'))
if sessions == 0 then return false end
redis.call('HSET', prefix .. 'batch', 'id', id, 'sessions', string.format('%.0f', sessions))
return {id, string.format('%.0f', sessions)}
"""

_PAGE = """
if redis.call('HGET', ARGV[1] .. 'batch', 'id') ~= ARGV[2] then return false end
return redis.call('LRANGE', ARGV[1] .. 'finished', ARGV[3], ARGV[4])
"""

_CLOSE = """
local batch = redis.call('HMGET', ARGV[1] .. 'batch', 'id', 'sessions')
if batch[1] ~= ARGV[2] then return 0 end
redis.call('LTRIM', ARGV[1] .. 'finished', batch[2], -1)
redis.call('HINCRBY', ARGV[1] .. 'totals', 'written', batch[2])
redis.call('DEL', ARGV[1] .. 'batch')
return tonumber(batch[2])
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which Redis stores it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


FIND = Script(_TAKE + _FIND)
"""Take over the sessions that keys lead to, up to the first that is alive, and name that. Args: prefix, server, now,
keys."""

RECLAIM = Script(_OUT + _TAKE + _RECLAIM)
"""Take over sessions, also those that are this server's own already. Args: prefix, server, ids."""

DUE = Script(_OUT + _TAKE + _DUE)
"""Take over some of the sessions that are over, those first that are over first; the answer says behind which to go on,
unless that was all. A place is a time and an id, so it stays where it is while sessions come and go. Args: prefix,
server, latest expiry or nothing, how many to look at, place to begin behind."""

STORE = Script(_STORE)
"""Store changes of sessions, all or none. Args: prefix, server, now, whether it was sent before; per session id,
mode (`create`, `append`, `rewrite`), epoch, version, expiry, due, changes, count of keys, keys, count of definitions
that are not known to be in use by it, their fingerprints. A session that is created has its device as the first key,
and there must be no other active session of that device."""

FINISH = Script(_OUT + _FINISH)
"""Remove a session and queue what is logged of it. Args: prefix, server, id, epoch, version, finished session, keys."""

KEEP = Script(_OUT + _KEEP)
"""Store a definition. Args: prefix, fingerprint, sources."""

LOOK = Script(_OUT + _LOOK)
"""Return how many finished sessions wait, and whether a definition is there; delete those that nothing refers to.
Args: prefix, fingerprint of the definition in force, after how many seconds out of force one may go."""

HOLD, RELEASE = Script(_OUT + _HOLD), Script(_OUT + _RELEASE)
"""Be the only server that writes the warehouse, for some time; let another be it."""

BATCH, PAGE, CLOSE = Script(_OUT + _BATCH), Script(_PAGE), Script(_OUT + _CLOSE)
"""The batch to write; a part of its sessions; forget it and them."""
