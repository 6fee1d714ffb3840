-- Who runs this: the server process, and whose replica it was before it became a primary. Another process, and one
-- that took over another's data meanwhile, may lack what this one had.
local function own_run_id()
  local info = redis.call('INFO', 'server', 'replication')
  return string.match(info, 'run_id:(%w+)') .. ':' .. string.match(info, 'master_replid2:(%w+)')
end

-- Registers what a closed shard answers as well.
local function register_always(name, body, flags)
  redis.register_function({function_name = name, callback = body, flags = flags})
end

--[[ tg1_init: makes a new, empty shard usable. Only for a first start: a shard that lost its data
is rebuilt from the log, under a higher epoch.
KEYS: meta.
ARGV[1]: epoch.
Returns: META(epoch, ready) as it is now.
State: creates meta when it is absent; never changes an existing one. ]]
local function init(keys, args)
  local doc = cjson.decode(args[1])
  if redis.call('EXISTS', keys[1]) == 0 then
    redis.call('HSET', keys[1], 'epoch', dec(doc.epoch), 'ready', '1', 'layout', LAYOUT,
      'run_id', own_run_id(), 'complete', '1')
  end
  local meta = redis.call('HMGET', keys[1], 'epoch', 'ready')
  return verdict('META', {epoch = meta[1] or '0', ready = meta[2] == '1'})
end
redis.register_function('tg1_init', init)

--[[ tg1_meet: the first thing on a new connection: closes a shard whose store is another process by now, or was
a replica meanwhile. What that one restored, or had from its primary, may lack what was decided last, and nothing in it
says so.
KEYS: meta.
ARGV[1]: empty.
Returns: META(epoch, ready, why: it is closed) as it is now.
State: where run_id is another one, ready 0 and why `restarted`; whoever was rebuilding it does not go on. ]]
local function meet(keys)
  local meta = redis.call('HMGET', keys[1], 'epoch', 'ready', 'run_id', 'why')
  local is_ready, why = meta[2] == '1', meta[4] or nil
  if meta[1] and meta[3] ~= own_run_id() then
    if is_ready then
      is_ready, why = false, 'restarted'
      redis.call('HSET', keys[1], 'ready', '0', 'why', why)
    end
    redis.call('HDEL', keys[1], 'building')
  end
  return verdict('META', {epoch = meta[1] or '0', ready = is_ready, why = why})
end
register_always('tg1_meet', meet, EMPTIES)

-- Why a shard is not the fold of a log that is named; nil when it may be: what is not known differs from nothing.
local function difference(known, log)
  for _, id in ipairs({'cluster_id', 'birth_id'}) do
    if known[id] and given(log[id]) and known[id] ~= log[id] then return 'another log' end
  end
  local booked = math.min(given(log.booked) and log.booked or -1, known.booked)
  if given(log['end']) and booked >= log['end'] then return 'log lost its end' end
  if known.booked >= 0 and given(log.committed) and known.booked + 1 < log.committed then return 'behind' end
  return nil
end

--[[ tg1_identify: compares a shard with the log that is here.
KEYS: meta.
ARGV[1]: cluster_id and birth_id of the log; booked (as this told before the end was read) and end (the
  offset after the newest outcome of the partition), committed (where accounting's group goes on); null where not known.
Returns: META(epoch, ready, why: it is closed, booked) as it is now.
State: learns ids that it did not know. A shard of another log, or with outcomes booked that the log has not, or
  without some that were booked: ready 0 and why; whoever was rebuilding it does not go on. ]]
local function identify(keys, args)
  local doc, meta = cjson.decode(args[1]), keys[1]
  local stored = redis.call('HMGET', meta, 'epoch', 'ready', 'why', 'cluster_id', 'birth_id', 'booked')
  local epoch, is_ready, why = stored[1], stored[2] == '1', stored[3] or nil
  local known = {cluster_id = stored[4], birth_id = stored[5], booked = tonumber(stored[6] or -1)}
  local differs = difference(known, doc)
  if epoch and differs then
    is_ready, why = false, differs
    redis.call('HSET', meta, 'ready', '0', 'why', why)
    redis.call('HDEL', meta, 'building')
  elseif epoch then
    for _, id in ipairs({'cluster_id', 'birth_id'}) do
      if given(doc[id]) then redis.call('HSETNX', meta, id, doc[id]) end
    end
  end
  return verdict('META', {epoch = epoch or '0', ready = is_ready, why = why,
    booked = dec(known.booked)})
end
register_always('tg1_identify', identify, EMPTIES)
