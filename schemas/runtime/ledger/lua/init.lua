-- Of the server process that runs this; another one may have lost what this one had.
local function own_run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
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

--[[ tg1_meet: the first thing on a new connection: closes a shard whose store is another process by now. What
that one restored, or had from its primary, may lack what was decided last, and nothing in it says so.
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
