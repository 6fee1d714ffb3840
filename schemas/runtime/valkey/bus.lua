#!lua name=tallygate_bus_v2

-- A change of what a function means needs a new number in its name and the library's, beside the old ones: processes
-- of both versions use one bus while they are replaced.
-- What each organization has here beyond small things is counted, because the bus is everybody's. An
-- entry that was evicted or expired counts until its time. What is counted may stand on another server.
-- due: zset, name of an entry by its expiry, ms; owners: hash, name to <bytes>|<org>; bytes: hash, o:<org>
-- and all, to bytes.

-- forget: stop counting one entry.
local function forget(due, owners, bytes, name)
  local entry = redis.call('HGET', owners, name)
  if not entry then return end
  local size, org = string.match(entry, '^(%d+)|(.*)$')
  redis.call('HDEL', owners, name)
  redis.call('ZREM', due, name)
  for _, owner in ipairs({'o:' .. org, 'all'}) do
    if redis.call('HINCRBY', bytes, owner, -tonumber(size)) <= 0 then
      redis.call('HDEL', bytes, owner)
    end
  end
end

-- count: count an entry of an organization anew; false when there is no room for it.
local function count(due, owners, bytes, name, org, size, ttl_ms, of_org_max, of_all_max)
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  for _, old in ipairs(redis.call('ZRANGE', due, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, 100)) do
    forget(due, owners, bytes, old)
  end
  forget(due, owners, bytes, name)
  local of_org = tonumber(redis.call('HGET', bytes, 'o:' .. org) or '0')
  local of_all = tonumber(redis.call('HGET', bytes, 'all') or '0')
  if of_org + size > tonumber(of_org_max) or of_all + size > tonumber(of_all_max) then
    return false
  end
  redis.call('ZADD', due, now_ms + ttl_ms, name)
  redis.call('HSET', owners, name, size .. '|' .. org)
  redis.call('HINCRBY', bytes, 'o:' .. org, size)
  redis.call('HINCRBY', bytes, 'all', size)
  return true
end

-- tgbus2_send: append a frame to its request's stream and, only if that succeeded, ring the doorbell.
-- KEYS[1]  stream of the request's frames
-- ARGV[1]  entry id, <fence>-<seq>; the server refuses ids that are not above the last one
-- ARGV[2]  the frame, MessagePack
-- ARGV[3]  channel of the ingress that waits for it; empty when none does
-- ARGV[4]  time to live of the stream, ms
-- ARGV[5]  of a stream that has become long: id of the oldest frame to keep
-- Returns 1 when it was appended, 0 when the id is stale or repeated.
local function send(keys, args)
  local added = redis.pcall('XADD', keys[1], args[1], 'f', args[2])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'equal or smaller', 1, true) then return 0 end
    return added
  end
  redis.call('PEXPIRE', keys[1], args[4])
  if args[5] then redis.call('XTRIM', keys[1], 'MINID', args[5]) end
  if args[3] ~= '' then redis.call('PUBLISH', args[3], args[2]) end
  return 1
end

-- tgbus2_count: count an entry anew, unless its organization or all of them together have too much here.
-- KEYS     due, owners, bytes
-- ARGV[1]  the entry's name; ARGV[2] organization; ARGV[3] its bytes; ARGV[4] time to live, ms
-- ARGV[5]  most bytes of an organization; ARGV[6] most bytes of all
-- Returns 1 when it is counted, 0 when there is no room for it: then it is counted no longer.
local function count_entry(keys, args)
  local has_room = count(keys[1], keys[2], keys[3], args[1], args[2], tonumber(args[3]), tonumber(args[4]), args[5], args[6])
  return has_room and 1 or 0
end

-- tgbus2_forget: an entry is not here any more. KEYS as in tgbus2_count; ARGV[1] its name. Returns 1.
local function forget_entry(keys, args)
  forget(keys[1], keys[2], keys[3], args[1])
  return 1
end

redis.register_function('tgbus2_send', send)
redis.register_function('tgbus2_count', count_entry)
redis.register_function('tgbus2_forget', forget_entry)
