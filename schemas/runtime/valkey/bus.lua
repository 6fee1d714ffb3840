#!lua name=tallygate_bus_v1

-- What each organization has here beyond small things is counted, because the bus is everybody's. An
-- entry that was evicted or expired counts until its time.
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

-- tgbus1_send: append a frame to its request's stream and, only if that succeeded, ring the doorbell.
-- KEYS[1]  stream of the request's frames
-- ARGV[1]  entry id, <fence>-<seq>; the server refuses ids that are not above the last one
-- ARGV[2]  the frame, MessagePack
-- ARGV[3]  channel of the ingress that waits for it; empty when none does
-- ARGV[4]  time to live of the stream, ms
-- For a stream that has become long also:
-- KEYS[2] to KEYS[4]  due, owners, bytes; ARGV[5] id of the oldest frame to keep
-- ARGV[6]  organization; ARGV[7] bytes of the frames kept; ARGV[8], ARGV[9] most bytes of an organization, of all
-- Where there is no room for them, only the newest frame is kept, and for a minute: who has not read the others is too late.
-- Returns 1 when it was appended, 0 when the id is stale or repeated.
local function send(keys, args)
  local added = redis.pcall('XADD', keys[1], args[1], 'f', args[2])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'equal or smaller', 1, true) then return 0 end
    return added
  end
  redis.call('PEXPIRE', keys[1], args[4])
  if args[5] then
    redis.call('XTRIM', keys[1], 'MINID', args[5])
    local size = tonumber(args[7])
    if not count(keys[2], keys[3], keys[4], keys[1], args[6], size, args[4], args[8], args[9]) then
      redis.call('XTRIM', keys[1], 'MAXLEN', 1)
      redis.call('PEXPIRE', keys[1], math.min(tonumber(args[4]), 60000))
    end
  end
  if args[3] ~= '' then redis.call('PUBLISH', args[3], args[2]) end
  return 1
end

-- tgbus1_put_body: keep a body, unless its organization or all of them together have too much here.
-- KEYS[1]  the body; KEYS[2] to KEYS[4] due, owners, bytes
-- ARGV[1]  organization; ARGV[2] the body; ARGV[3] time to live, ms
-- ARGV[4]  most bytes of an organization; ARGV[5] most bytes of all
-- Returns 1 when it is kept, 0 when there is no room for it.
local function put_body(keys, args)
  local size = #args[2]
  if not count(keys[2], keys[3], keys[4], keys[1], args[1], size, args[3], args[4], args[5]) then
    redis.call('UNLINK', keys[1])
    return 0
  end
  redis.call('SET', keys[1], args[2], 'PX', args[3])
  return 1
end

-- tgbus1_drop_body: the body is not needed any more. KEYS as in tgbus1_put_body. Returns 1.
local function drop_body(keys, args)
  redis.call('UNLINK', keys[1])
  forget(keys[2], keys[3], keys[4], keys[1])
  return 1
end

redis.register_function('tgbus1_send', send)
redis.register_function('tgbus1_put_body', put_body)
redis.register_function('tgbus1_drop_body', drop_body)
