--[[ A rebuild makes a shard again from the log. Who rebuilds names itself `<epoch>:<token>`; as long as that
stands in `meta.building`, its writes are obeyed, and everybody else's answer is STALE. A later owner takes a
higher epoch, so of two that believe they own a shard the later one wins, whenever the earlier wakes up. Every
write may be repeated, and a rebuild that is killed leaves a closed shard that the next one empties first.

  begin ─► unlink, step by step ─► restore_* ─► open (ready) ─► restore_marks, claims, jobs, usage ─► complete

Marks come when the shard is open: until then nothing is decided on a request that the filter `awaited` names.

Tombstones stay where they are: what was cancelled before it ran holds nothing, and no record tells of it. ]]

local UNLINKED_PER_CALL = 5000

-- Registers `body(call)`, which runs only while the document's `building` is the one that stands.
local function register_rebuild(name, body, flags)
  local function guarded(keys, args)
    local doc, stored = cjson.decode(args[1]), redis.call('HMGET', keys[1], 'building', 'test_clock')
    if stored[1] ~= doc.building then return verdict('STALE') end
    local now_us, tag = time_us(stored[2], doc), tag_of(keys[1])
    return body({keys = keys, doc = doc, bytes = args[2], tag = tag, now_us = now_us,
      now_ms = math.floor(now_us / 1000), shard = string.match(tag, '%d+')})
  end
  redis.register_function({function_name = name, callback = guarded, flags = flags})
end

--[[ tg1_rebuild_begin: closes a shard, for as long as it takes to make it again.
KEYS: meta.
ARGV[1]: epoch (above that of the shard, and of the log), building (`<epoch>:<token>`).
Returns: OK | STALE (somebody began under this epoch or a later one).
State: ready 0, complete 0, claims 0, marks 0; epoch, layout, run_id and building are those of the rebuild. ]]
local function rebuild_begin(keys, args)
  local doc = cjson.decode(args[1])
  local stored = redis.call('HMGET', keys[1], 'epoch', 'building')
  if stored[2] == doc.building then return verdict('OK') end
  if doc.epoch <= tonumber(stored[1] or 0) then return verdict('STALE') end
  redis.call('HSET', keys[1], 'epoch', dec(doc.epoch), 'building', doc.building, 'ready', '0',
    'complete', '0', 'claims', '0', 'marks', '0', 'layout', LAYOUT, 'run_id', own_run_id())
  redis.call('HDEL', keys[1], 'why')
  return verdict('OK')
end
register_always('tg1_rebuild_begin', rebuild_begin, EMPTIES)

--[[ tg1_rebuild_ask: closes a shard, so that its owner rebuilds it; or asks what a rebuild would change.
KEYS: meta.
ARGV[1]: why, or trial (a token: nothing is closed, and nothing but the finding is written).
Returns: OK.
State: ready 0; nobody builds it any more; which log it was the fold of is forgotten: it takes the one that is here.
  Or the owner is to make that trial. ]]
local function rebuild_ask(keys, args)
  local doc = cjson.decode(args[1])
  if given(doc.trial) then
    redis.call('HSET', keys[1], 'trial', doc.trial)
    return verdict('OK')
  end
  redis.call('HSET', keys[1], 'ready', '0', 'why', doc.why)
  redis.call('HDEL', keys[1], 'building', 'cluster_id', 'birth_id', 'booked')
  return verdict('OK')
end
register_always('tg1_rebuild_ask', rebuild_ask, EMPTIES)

--[[ tg1_rebuild_found: what a trial found.
KEYS: meta.
ARGV[1]: trial, found (opaque text).
Returns: OK | STALE (another one is asked for).
State: it stands in meta as `found`, behind the trial's token and a blank. ]]
local function rebuild_found(keys, args)
  local doc = cjson.decode(args[1])
  if redis.call('HGET', keys[1], 'trial') ~= doc.trial then return verdict('STALE') end
  redis.call('HDEL', keys[1], 'trial')
  redis.call('HSET', keys[1], 'found', doc.trial .. ' ' .. doc.found)
  return verdict('OK')
end
register_always('tg1_rebuild_found', rebuild_found, EMPTIES)

--[[ tg1_rebuild_note: how far a rebuild is, for people.
KEYS: meta.
ARGV[1]: building, step (text), records (how many were read).
Returns: OK | STALE.
State: both stand in meta. ]]
local function rebuild_note(call)
  redis.call('HSET', call.keys[1], 'step', call.doc.step, 'records', dec(call.doc.records))
  return verdict('OK')
end
register_rebuild('tg1_rebuild_note', rebuild_note, EMPTIES)

--[[ tg1_rebuild_salvage: what is finished and not booked, with its outcome: nobody else may have it.
KEYS: meta, fin.
ARGV[1]: building, skip, limit.
Returns: [SALVAGED(entries [{org, req}], more), outcome bytes of each] | STALE.
State: unchanged. ]]
local function rebuild_salvage(call)
  local doc, entries, reply = call.doc, {}, {''}
  local found = redis.call('ZRANGE', call.keys[2], dec(doc.skip), dec(doc.skip + doc.limit - 1))
  for _, member in ipairs(found) do
    local org, req = string.match(member, '^(.*)|([^|]*)$')
    local outcome = redis.call('HGET', prefix_of(call.tag, org) .. 'a:' .. req, 'outcome')
    if outcome then
      entries[#entries + 1] = {org = org, req = req}
      reply[#reply + 1] = outcome
    end
  end
  reply[1] = verdict('SALVAGED', {entries = unless_empty(entries), more = #found == doc.limit})
  return reply
end
register_rebuild('tg1_rebuild_salvage', rebuild_salvage, EMPTIES)

-- Whether a key is an attempt that holds nothing and that no record of the log tells of.
local function is_tombstone(key)
  if not string.find(key, '|a:', 1, true) then return false end
  local stored = redis.call('HMGET', key, 'state', 'booked', 'inc')
  return not stored[2] and (stored[1] == 'CANCELLED' or (not stored[1] and stored[3]))
end

--[[ tg1_rebuild_unlink: one step of emptying a shard.
KEYS: meta.
ARGV[1]: building, cursor (of the step before; "0" for the first).
Returns: UNLINKED(cursor: "0" once it is done, count) | STALE.
State: keys of the shard are gone, but for meta and tombstones. ]]
local function rebuild_unlink(call)
  local found = redis.call('SCAN', call.doc.cursor, 'MATCH', call.tag .. '*', 'COUNT',
    UNLINKED_PER_CALL)
  local gone = {}
  for _, key in ipairs(found[2]) do
    if key ~= call.keys[1] and not is_tombstone(key) then gone[#gone + 1] = key end
  end
  for i = 1, #gone, 1000 do
    redis.call('UNLINK', unpack(gone, i, math.min(i + 999, #gone)))
  end
  return verdict('UNLINKED', {cursor = found[1], count = #gone})
end
register_rebuild('tg1_rebuild_unlink', rebuild_unlink, EMPTIES)

--[[ tg1_restore_balances: absolute balances and their totals, as the log has them.
KEYS: meta, changed.
ARGV[1]: building, offset (the last outcome that is folded), balances [{org, key, settled, over, late, end_ms
  or null, changed (offset of the last outcome that is not in its snapshot) or null}].
Returns: OK | STALE.
State: balance and total say the same; the organization's mark is the offset; what no snapshot has is listed
  as changed; `kept` has the keys of snapshots again, as after every function below. ]]
local function restore_balances(call)
  local reached, kept = dec(call.doc.offset), {}
  for i, each in ipairs(call.doc.balances or {}) do
    local prefix = prefix_of(call.tag, each.org)
    for _, key in ipairs({prefix .. each.key, total_of(prefix, each.key)}) do
      redis.call('HSET', key, 'settled', dec(each.settled), 'over', dec(each.over),
        'late', dec(each.late))
      expire_with_period(key, each.end_ms)
    end
    redis.call('HSET', prefix .. 'm', call.shard, reached)
    kept[i] = {key = each.org .. '|' .. each.key,
      until_ms = given(each.end_ms) and each.end_ms + TABLE_KEPT_MS or nil}
    if given(each.changed) then
      redis.call('ZADD', call.keys[2], dec(each.changed), each.org .. '|' .. each.key)
    end
  end
  keep(call.tag .. 'kept', kept)
  return verdict('OK')
end
register_rebuild('tg1_restore_balances', restore_balances, EMPTIES)

local MARKS_PER_ASKING = 1000

-- Whether any of the keys is there. A tombstone, or a request with a correction, whose state stays.
local function is_any_there(keys)
  for i = 1, #keys, MARKS_PER_ASKING do
    local last = math.min(i + MARKS_PER_ASKING - 1, #keys)
    if redis.call('EXISTS', unpack(keys, i, last)) > 0 then return true end
  end
  return false
end

--[[ tg1_restore_marks: where the first records of requests and corrections stand.
KEYS: meta, ended.
ARGV[1]: building, marks, each a list: org, req, field (`booked`, or `booked:<ref>`), offset, due_ms, ran.
Returns: OK | STALE.
State: what has no state is BOOKED; each is listed in `ended`, and leaves the store by that alone. ]]
local function restore_marks(call)
  local marks, keys, ended = call.doc.marks or {}, {}, {}
  for i, mark in ipairs(marks) do
    keys[i] = call.tag .. mark[1] .. '|a:' .. mark[2]
    ended[i] = dec(mark[5]) .. '|' .. mark[1] .. '|' .. mark[2]
  end
  local is_new, place = not is_any_there(keys), call.shard .. ':'
  for i, mark in ipairs(marks) do
    local state = is_new and 'BOOKED' or redis.call('HGET', keys[i], 'state') or 'BOOKED'
    if mark[6] == true then
      redis.call('HSET', keys[i], 'state', state, mark[3], place .. dec(mark[4]), 'ran', '1')
    else
      redis.call('HSET', keys[i], 'state', state, mark[3], place .. dec(mark[4]))
    end
  end
  for i = 1, #ended, MARKS_PER_ASKING do
    redis.call('RPUSH', call.keys[2], unpack(ended, i, math.min(i + MARKS_PER_ASKING - 1, #ended)))
  end
  return verdict('OK')
end
register_rebuild('tg1_restore_marks', restore_marks, EMPTIES)

--[[ tg1_restore_rates: buckets as the last admissions left them.
KEYS: meta.
ARGV[1]: building, rates [{org, key, until_us (when the bucket is full)}].
Returns: OK | STALE.
State: buckets that are not full. ]]
local function restore_rates(call)
  for _, rate in ipairs(call.doc.rates or {}) do
    if rate.until_us > call.now_us then
      write_bucket(prefix_of(call.tag, rate.org) .. rate.key, call.now_us,
        rate.until_us - call.now_us, 0)
    end
  end
  return verdict('OK')
end
register_rebuild('tg1_restore_rates', restore_rates, EMPTIES)

--[[ tg1_rebuild_open: opens the shard.
KEYS: meta, forgot, awaited.
ARGV[1]: building, offset (the last outcome that is folded), forgot_ms (of marks due no later none is restored).
ARGV[2]: the filter of requests whose marks are to come (is_awaited in attempts.lua), empty when none are.
Returns: OK | STALE (also where another server process holds the store by now).
State: ready 1; folded and booked are the offset; awaited is the filter. ]]
local function rebuild_open(call)
  local meta, offset = call.keys[1], dec(call.doc.offset)
  if redis.call('HGET', meta, 'run_id') ~= own_run_id() then return verdict('STALE') end
  redis.call('SET', call.keys[2], dec(call.doc.forgot_ms))
  if call.bytes ~= '' then redis.call('SET', call.keys[3], call.bytes) end
  redis.call('HDEL', meta, 'seen_ms', 'grace_until')
  redis.call('HSET', meta, 'folded', offset, 'booked', offset, 'ready_ms', dec(call.now_ms),
    'ready', '1', 'marks', call.bytes == '' and '1' or '0')
  return verdict('OK')
end
register_rebuild('tg1_rebuild_open', rebuild_open, EMPTIES)

-- What snapshots and fold say of a usage hour, beside what was booked since.
local function restore_hour(call, each)
  local member = each.org .. '|u:' .. each.hour
  if redis.call('SADD', call.keys[2], member .. '|' .. each.part) == 0 then return end
  local key = prefix_of(call.tag, each.org) .. 'u:' .. each.hour
  for field, amount in pairs(each.cells) do add(key, field, amount) end
  redis.call('PEXPIREAT', key, dec(call.now_ms + TABLE_KEPT_MS), 'NX')
  if given(each.changed) then redis.call('ZADD', call.keys[3], dec(each.changed), member) end
  keep(call.tag .. 'kept', {{key = each.part == '0/1' and member or member .. '|' .. each.part,
    until_ms = each.until_ms}})
end

--[[ tg1_restore_usage: usage hours of a shard that is open again.
KEYS: meta, restored, changed.
ARGV[1]: building, hours [{org, hour, part, cells {field: amount}, until_ms (when the log may forget it),
  changed (as of balances) or null}].
Returns: OK | STALE.
State: added to each hour, once; noted in `restored`, which goes when the rebuild is complete. ]]
local function restore_usage(call)
  for _, each in ipairs(call.doc.hours or {}) do restore_hour(call, each) end
  return verdict('OK')
end
register_rebuild('tg1_restore_usage', restore_usage, EMPTIES)

--[[ tg1_restore_claims: idempotency keys of requests that ended, or that the log has accepted.
KEYS: meta.
ARGV[1]: building, claims [{org, key_hash, req, fingerprint, produce_by_ms, deadline_ms, until_ms}].
Returns: OK | STALE.
State: keys that nobody holds are held until `until_ms`, and counted in the hour of their claim. ]]
local function restore_claims(call)
  local kept = {}
  for i, each in ipairs(call.doc.claims or {}) do
    kept[i] = {key = each.org .. '|k:' .. each.key_hash, until_ms = each.until_ms + HOUR_MS}
    local prefix = prefix_of(call.tag, each.org)
    local key, until_ms = prefix .. 'k:' .. each.key_hash, each.until_ms
    if until_ms > call.now_ms and redis.call('EXISTS', key) == 0 then
      redis.call('HSET', key, 'request_id', each.req, 'fingerprint', each.fingerprint,
        'produce_by_ms', dec(each.produce_by_ms), 'deadline_ms', dec(each.deadline_ms))
      redis.call('PEXPIREAT', key, dec(until_ms))
      redis.call('HINCRBY', prefix .. 'kn', dec(hour_of(until_ms - CLAIM_KEPT_MS)), 1)
      redis.call('PEXPIREAT', prefix .. 'kn', dec(call.now_ms + CLAIM_KEPT_MS + HOUR_MS))
    end
  end
  keep(call.tag .. 'kept', kept)
  return verdict('OK')
end
register_rebuild('tg1_restore_claims', restore_claims, EMPTIES)

--[[ tg1_restore_jobs: what lists of jobs say.
KEYS: meta.
ARGV[1]: building, jobs [{org, req, info, created_ms, until_ms, ends or null}].
Returns: OK | STALE.
State: the attempt carries info, and how it ended; it and its place in the list stay until `until_ms`. ]]
local function restore_jobs(call)
  local kept = {}
  for i, each in ipairs(call.doc.jobs or {}) do
    kept[i] = {key = each.org .. '|j:' .. each.req, until_ms = each.until_ms + HOUR_MS}
    if each.until_ms > call.now_ms then
      local prefix, until_ms = prefix_of(call.tag, each.org), dec(each.until_ms)
      redis.call('ZADD', prefix .. 'jobs', dec(each.created_ms), each.req)
      redis.call('PEXPIREAT', prefix .. 'jobs', until_ms, 'GT')
      redis.call('PEXPIREAT', prefix .. 'jobs', until_ms, 'NX')
      local key = prefix .. 'a:' .. each.req
      redis.call('HSET', key, 'job', each.info)
      if given(each.ends) then redis.call('HSETNX', key, 'ends', each.ends) end
      redis.call('PEXPIREAT', key, until_ms)
    end
  end
  keep(call.tag .. 'kept', kept)
  return verdict('OK')
end
register_rebuild('tg1_restore_jobs', restore_jobs, EMPTIES)

--[[ tg1_rebuild_restored: that all marks are back; that keys and jobs are, too; that nothing is left to do.
KEYS: meta, restored, awaited.
ARGV[1]: building, last (what was restored last: `marks`, `claims` or `all`).
Returns: OK | STALE.
State: marks 1, and from now on owners have their time to attach; claims 1; complete 1 and nobody builds. ]]
local function rebuild_restored(call)
  local meta, last = call.keys[1], call.doc.last
  if last == 'marks' then redis.call('HSET', meta, 'marks', '1', 'ready_ms', dec(call.now_ms)) end
  redis.call('UNLINK', call.keys[3])
  if last ~= 'marks' then redis.call('HSET', meta, 'claims', '1') end
  if last ~= 'all' then return verdict('OK') end
  redis.call('HSET', meta, 'complete', '1')
  redis.call('HDEL', meta, 'building', 'step', 'records')
  redis.call('UNLINK', call.keys[2])
  return verdict('OK')
end
register_rebuild('tg1_rebuild_restored', rebuild_restored, EMPTIES)
