#!lua name=tallygate_bus_v1

-- tgbus1_send: append a frame to its request's stream and, only if that succeeded, ring the doorbell.
-- KEYS[1]  stream of the request's frames
-- ARGV[1]  entry id, <fence>-<seq>; the server refuses ids that are not above the last one
-- ARGV[2]  the frame, MessagePack
-- ARGV[3]  channel of the ingress that waits for it; empty when none does
-- ARGV[4]  time to live of the stream, ms
-- Returns 1 when it was appended, 0 when the id is stale or repeated.
local function send(keys, args)
  local added = redis.pcall('XADD', keys[1], args[1], 'f', args[2])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'equal or smaller', 1, true) then return 0 end
    return added
  end
  redis.call('PEXPIRE', keys[1], args[4])
  if args[3] ~= '' then redis.call('PUBLISH', args[3], args[2]) end
  return 1
end

redis.register_function('tgbus1_send', send)

-- Bodies of requests that cross the log once. What each organization has here is counted, because the
-- bus is everybody's; an entry that was evicted or expired counts until its time.

-- forget: stop counting one body. keys as in tgbus1_put_body from KEYS[2] on.
local function forget(due, owners, bytes, id)
  local entry = redis.call('HGET', owners, id)
  if not entry then return end
  local size, org = string.match(entry, '^(%d+)|(.*)$')
  redis.call('HDEL', owners, id)
  redis.call('ZREM', due, id)
  for _, owner in ipairs({'o:' .. org, 'all'}) do
    if redis.call('HINCRBY', bytes, owner, -tonumber(size)) <= 0 then
      redis.call('HDEL', bytes, owner)
    end
  end
end

-- tgbus1_put_body: keep a body, unless its organization or all of them together have too much here.
-- KEYS[1]  the body; KEYS[2] zset: request ids by expiry, ms; KEYS[3] hash: request id to <bytes>|<org>;
-- KEYS[4]  hash: o:<org> and all, to bytes
-- ARGV[1]  request id; ARGV[2] organization; ARGV[3] the body; ARGV[4] time to live, ms
-- ARGV[5]  most bytes of an organization; ARGV[6] most bytes of all
-- Returns 1 when it is kept, 0 when there is no room for it.
local function put_body(keys, args)
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  for _, id in ipairs(redis.call('ZRANGE', keys[2], '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, 100)) do
    forget(keys[2], keys[3], keys[4], id)
  end
  forget(keys[2], keys[3], keys[4], args[1])
  local size, org = #args[3], 'o:' .. args[2]
  local of_org = tonumber(redis.call('HGET', keys[4], org) or '0')
  local of_all = tonumber(redis.call('HGET', keys[4], 'all') or '0')
  if of_org + size > tonumber(args[5]) or of_all + size > tonumber(args[6]) then
    redis.call('DEL', keys[1])
    return 0
  end
  redis.call('SET', keys[1], args[3], 'PX', args[4])
  redis.call('ZADD', keys[2], now_ms + args[4], args[1])
  redis.call('HSET', keys[3], args[1], size .. '|' .. args[2])
  redis.call('HINCRBY', keys[4], org, size)
  redis.call('HINCRBY', keys[4], 'all', size)
  return 1
end

-- tgbus1_drop_body: the body is not needed any more. KEYS and ARGV[1] as in tgbus1_put_body. Returns 1.
local function drop_body(keys, args)
  redis.call('UNLINK', keys[1])
  forget(keys[2], keys[3], keys[4], args[1])
  return 1
end

redis.register_function('tgbus1_put_body', put_body)
redis.register_function('tgbus1_drop_body', drop_body)
