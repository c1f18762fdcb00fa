"""Lua scripts that Redis runs for the bus and the lease, each as one atomic step."""

from __future__ import annotations

from typing import Final

PUBLISH: Final = """
local last = tonumber(redis.call('GET', KEYS[3]) or '0')
local number = tonumber(redis.call('GET', KEYS[2]) or '0')
for at = 4, #ARGV do
  local sequence = tonumber(ARGV[3]) + at - 4
  if sequence > last then
    number = number + 1
    local id = string.format('%.0f-0', number)
    redis.call('XADD', KEYS[1], id, 'o', ARGV[1], 's', string.format('%.0f', sequence), 'g', ARGV[at])
    redis.call('SET', KEYS[2], string.format('%.0f', number))
    redis.call('SET', KEYS[3], string.format('%.0f', sequence), 'EX', ARGV[2])
  end
end
return number
"""

FINISH_SNAPSHOT: Final = """
local before = redis.call('GET', KEYS[1])
if before then
  local known = cjson.decode(before)
  if known['number'] >= tonumber(ARGV[2]) then
    return 0
  end
  redis.call('EXPIRE', known['list'], 60)
end
redis.call('PERSIST', KEYS[3])
redis.call('SET', KEYS[1], ARGV[1])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
return 1
"""

HOLD: Final = """
local owner = redis.call('GET', KEYS[1])
if not owner or owner == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
"""
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""
