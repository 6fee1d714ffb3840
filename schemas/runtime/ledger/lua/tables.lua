--[[ Which tables have to be written to the log: `changed` (zset of `<org>|<suffix of the table>` by the offset
of an outcome that changed it) is noted in the same call as the change itself, so whoever owns the shard then
writes them. Whatever was in it when a round began is written when the round ends; what comes later was changed
later. `kept` (zset of keys of records in the log, by ms) says when each is to be forgotten there, and so names
every table of the shard that was ever written. ]]

local FOR_EVER_MS = 9007199254740991
local PAIRS_PER_CALL = 2000

-- Adds pairs of score and member, each only upwards.
local function raise(key, scored)
  for first = 1, #scored, 2 * PAIRS_PER_CALL do
    local last = math.min(#scored, first + 2 * PAIRS_PER_CALL - 1)
    redis.call('ZADD', key, 'GT', unpack(scored, first, last))
  end
end

local function note_changed(key, org, changed)
  local scored = {}
  for suffix, offset in pairs(changed) do
    scored[#scored + 1] = dec(offset)
    scored[#scored + 1] = org .. '|' .. suffix
  end
  raise(key, scored)
end

local function keep(key, kept)
  local scored = {}
  for _, each in ipairs(kept or {}) do
    scored[#scored + 1] = dec(given(each.until_ms) and each.until_ms or FOR_EVER_MS)
    scored[#scored + 1] = each.key
  end
  raise(key, scored)
end

--[[ tg1_changed: some of the tables that changed since they were written to the log.
KEYS: meta, changed.
ARGV[1]: cursor (of the page before; 0 begins), count (about how many).
Returns: CHANGED(cursor (0 after the last page), tables [{org, table: its suffix, offset: of a change}],
  epoch, swept_ms (when all tables were noted last; 0: never), now_ms, cluster_id and birth_id of the log,
  left out where they are not known, complete: nothing of a rebuild is left to do). A whole round has every table that was in it from beginning to end.
State: unchanged. ]]
local function changed(call)
  local found = redis.call('ZSCAN', call.keys[2], call.doc.cursor, 'COUNT', dec(call.doc.count))
  local entries, tables = found[2], {}
  for i = 1, #entries, 2 do
    local org, suffix = string.match(entries[i], '^([^|]*)|(.*)$')
    tables[#tables + 1] = {org = org, table = suffix, offset = dec(tonumber(entries[i + 1]))}
  end
  local meta = redis.call('HMGET', call.keys[1], 'swept_ms', 'cluster_id', 'birth_id', 'complete')
  return verdict('CHANGED', {cursor = found[1], tables = unless_empty(tables), epoch = dec(call.epoch),
    swept_ms = meta[1] or '0', now_ms = dec(call.now_ms), cluster_id = meta[2] or nil,
    birth_id = meta[3] or nil, complete = meta[4] == '1'})
end
register('tg1_changed', changed, {'no-writes'})

--[[ tg1_written: tables are in the log as they were after these offsets.
KEYS: meta, changed, kept.
ARGV[1]: tables [{org, table, offset: as `changed` listed it}], kept [{key, until_ms: left out for ever}].
Returns: OK.
State: the tables leave `changed`, but for those that changed again; `kept` notes the keys of their records. ]]
local function written(call)
  for _, each in ipairs(call.doc.tables or {}) do
    local member = each.org .. '|' .. each.table
    local offset = redis.call('ZSCORE', call.keys[2], member)
    if offset and tonumber(offset) <= each.offset then redis.call('ZREM', call.keys[2], member) end
  end
  keep(call.keys[3], call.doc.kept)
  return verdict('OK')
end
register('tg1_written', written, EMPTIES)

--[[ tg1_sweep: notes some tables as changed that are in the log already, so that they are written anew.
KEYS: meta, changed, kept.
ARGV[1]: cursor (of the page before; 0 begins), count (about how many).
Returns: SWEPT(cursor: 0 after the last page).
State: `changed` has those tables too; with the last page, meta.swept_ms. ]]
local function sweep(call)
  local found = redis.call('ZSCAN', call.keys[3], call.doc.cursor, 'COUNT', dec(call.doc.count))
  for i = 1, #found[2], 2 do
    local org, suffix = string.match(found[2][i], '^([^|]*)|([ub]:[^|]*)')
    if org then redis.call('ZADD', call.keys[2], 'NX', '-1', org .. '|' .. suffix) end
  end
  if found[1] == '0' then redis.call('HSET', call.keys[1], 'swept_ms', dec(call.now_ms)) end
  return verdict('SWEPT', {cursor = found[1]})
end
register('tg1_sweep', sweep, EMPTIES)

--[[ tg1_outlived: keys of records in the log that are to be forgotten there by now, the oldest first.
KEYS: meta, kept.
ARGV[1]: limit.
Returns: OUTLIVED(keys).
State: unchanged. ]]
local function outlived(call)
  local due = redis.call('ZRANGEBYSCORE', call.keys[2], '-inf', dec(call.now_ms), 'LIMIT', 0,
    dec(call.doc.limit))
  return verdict('OUTLIVED', {keys = unless_empty(due)})
end
register('tg1_outlived', outlived, {'no-writes'})

--[[ tg1_forgotten: the log has the tombstones of these keys.
KEYS: meta, kept.
ARGV[1]: keys.
Returns: OK.
State: they leave `kept`, but for those that are kept anew. ]]
local function forgotten(call)
  for _, key in ipairs(call.doc.keys or {}) do
    local until_ms = redis.call('ZSCORE', call.keys[2], key)
    if until_ms and tonumber(until_ms) <= call.now_ms then redis.call('ZREM', call.keys[2], key) end
  end
  return verdict('OK')
end
register('tg1_forgotten', forgotten, EMPTIES)
