-- Of the server process that runs this; another one may have lost what this one had.
local function own_run_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
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
