--[[ Marks: an attempt hash that is booked says where (`booked`, and `booked:<ref>` of a correction), so a
copy at a later offset is known. Marks leave by the log's clock, never by the store's: `ended`
lists `<due ms>|<org>|<request>`, due 15 min after deadline and append time, and what is booked moves that
clock on. So nothing is forgotten while accounting is away. `forgot` (ms) is the latest due
that was: of what is due no later and unknown, only the log can say whether it was booked. ]]

local FORGOTTEN_PER_CALL = 16

local LIVE = {RESERVED = true, RESTORED = true, RUNNING = true}
-- Of these a call settled the spending, or will; of all others booking does.
local SETTLED = {RESERVED = true, RESTORED = true, RUNNING = true, FINISHED = true, UNKNOWN = true}

local DROPPED = {outcome = true}
for i = 1, #RUN_FIELDS do DROPPED[RUN_FIELDS[i]] = true end

local function read_hash(key)
  local flat, hash = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do hash[flat[i]] = flat[i + 1] end
  return hash
end

-- Rows of one call mostly add to the same few fields, so they are summed up, and each sum is added once.
local function sum_up(sums, key, field, amount)
  if amount == 0 then return end
  local fields = sums[key]
  if not fields then
    fields = {}
    sums[key] = fields
  end
  fields[field] = (fields[field] or 0) + amount
end

local function add_usage(call, line, offset)
  local table_key = 'u:' .. line.hour
  for measure, amount in pairs(line.measures) do
    sum_up(call.usage, table_key, line.row .. '\t' .. measure, amount)
  end
  call.usage[table_key] = call.usage[table_key] or {}
  call.changed[table_key] = offset
end

-- What stands in the log is totalled. `is_late`: no call settled it, so it is settled here, in one step
-- with its total; an increase has no hold behind it.
local function add_booking(call, booking, is_late, offset)
  local amount = booking.amount
  if amount == 0 then return end
  call.changed[booking.key] = offset
  sum_up(call.totals, booking.key, 'settled', amount)
  if is_late then
    sum_up(call.late, booking.key, 'settled', amount)
    sum_up(call.late, booking.key, 'late', math.max(0, amount))
  end
end

local function add_all(key, sums)
  for field, amount in pairs(sums) do add(key, field, amount) end
end

-- Adds what the rows came to. A total leaves the store together with its balance.
local function add_sums(call)
  for table_key, sums in pairs(call.usage) do
    add_all(call.prefix .. table_key, sums)
    redis.call('PEXPIREAT', call.prefix .. table_key, dec(call.now_ms + TABLE_KEPT_MS), 'NX')
  end
  for key, sums in pairs(call.late) do
    add_all(call.prefix .. key, sums)
    add(total_of(call.prefix, key), 'late', sums.late or 0)
  end
  for key, sums in pairs(call.totals) do
    local total, amount = total_of(call.prefix, key), sums.settled
    if redis.call('HINCRBY', total, 'settled', dec(amount)) == amount then
      local expires_ms = redis.call('PEXPIRETIME', call.prefix .. key)
      if expires_ms > 0 then redis.call('PEXPIREAT', total, dec(expires_ms)) end
    end
  end
end

-- The attempt of a row, the field of its mark, and where the row stands.
local function mark_of(call, row)
  local key = call.prefix .. 'a:' .. row.req
  local field = given(row.ref) and 'booked:' .. row.ref or 'booked'
  return {key = key, field = field, place = dec(call.doc.partition) .. ':' .. dec(row.offset)}
end

-- An attempt that is over keeps its mark alone, and is listed to be forgotten; a job has its own time. A
-- hash that once held a long value keeps its wide form: written anew it takes a fourth.
local function keep_mark(call, row, key, fields)
  local until_ms, kept = call.now_ms + ATTEMPT_KEPT_MS, {}
  if fields.job then
    until_ms = redis.call('PEXPIRETIME', key)
  else
    call.ended[#call.ended + 1] = dec(math.max(row.deadline_ms, row.at_ms) + TERMINAL_KEPT_MS)
      .. '|' .. call.doc.org .. '|' .. row.req
  end
  for field, value in pairs(fields) do
    if not DROPPED[field] then
      kept[#kept + 1] = field
      kept[#kept + 1] = value
    end
  end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(kept))
  if until_ms > 0 then redis.call('PEXPIREAT', key, dec(until_ms)) end
end

-- Whether the outcome settles what the request used, and no call does: it ended while the ledger was closed,
-- or in an earlier life.
local function is_told_by_log(row, fields)
  local state = fields.state
  if given(row.ref) or not (LIVE[state] or state == 'UNKNOWN') then return false end
  if row.unsettled == true or state == 'RESTORED' then return true end
  return cjson.decode(fields.holds or '{}').spare ~= nil
end

-- What was held for the request or settled so far makes place for what its outcome books.
local function settle_by_log(call, row)
  local key, covered = call.prefix .. 'a:' .. row.req, {}
  local attempt = read_attempt(key, call.prefix, call.doc.org, row.req)
  local function replace(field, bookings)
    for _, booking in ipairs(bookings or {}) do
      local amount = tonumber(booking.amount)
      covered[booking.key] = (covered[booking.key] or 0) + amount
      add(call.prefix .. booking.key, field, -amount)
    end
  end
  replace('settled', attempt.first and cjson.decode(attempt.first).booked)
  replace(attempt.state == 'UNKNOWN' and 'settled' or 'reserved', attempt.holds.balances)
  replace('spare', attempt.holds.spare or nil)
  for _, booking in ipairs(row.bookings or {}) do
    local over = math.max(0, booking.amount - (covered[booking.key] or 0))
    add(call.prefix .. booking.key, 'settled', booking.amount)
    add(call.prefix .. booking.key, 'over', over)
    add(total_of(call.prefix, booking.key), 'over', over)
  end
  drop_leases(attempt)
  redis.call('ZREM', call.keys[6], attempt.member)
  redis.call('ZREM', call.keys[7], attempt.member)
end

-- Remembers the first record of a request (and reference). One that never ran by the ledger's word but
-- did by the log's has `ran`: no key's claim frees it.
local function set_mark(call, row, mark, fields)
  local state = fields.state
  if is_told_by_log(row, fields) then
    settle_by_log(call, row)
    fields.state, fields.ran = 'BOOKED', row.ran and '1' or nil
  elseif LIVE[state] or (given(row.ref) and state) then
    redis.call('HSET', mark.key, mark.field, mark.place)
    return
  end
  if not SETTLED[state] and row.ran then fields.ran = '1' end
  fields.state, fields[mark.field] = fields.state or 'BOOKED', mark.place
  -- Also of a job that the ledger lost and will be told of again: this is said once.
  if not given(row.ref) and given(row.ends) then fields.ends = fields.ends or row.ends end
  keep_mark(call, row, mark.key, fields)
end

-- Whether a mark of this row may have been there: then the caller says whether it is the first.
local function is_unsure(call, row, fields)
  if given(row.is_first) or (fields.state and fields.state ~= 'BOOKED') then return false end
  call.forgot_ms = call.forgot_ms or tonumber(redis.call('GET', call.keys[5]) or 0)
  return row.deadline_ms + TERMINAL_KEPT_MS <= call.forgot_ms
end

-- What a row above the booked offset is; nil when only the log can say.
local function fate_of_new(call, row)
  local mark = mark_of(call, row)
  local fields = read_hash(mark.key)
  local first = fields[mark.field]
  if first then
    -- It was finished although another end was booked before: its own outcome is here now.
    if fields.outcome and not given(row.ref) then keep_mark(call, row, mark.key, fields) end
    return 'DUPLICATE', false
  end
  if is_unsure(call, row, fields) then return nil end
  if row.is_first == false then return 'DUPLICATE', false end
  local is_late = given(row.ref) or not SETTLED[fields.state]
  set_mark(call, row, mark, fields)
  return 'BOOKED', is_late
end

-- What a row below the mark was when it was booked; a copy stays a copy while its attempt is kept.
local function fate_of_seen(call, row)
  local mark = mark_of(call, row)
  local first = redis.call('HGET', mark.key, mark.field)
  return (first and first ~= mark.place) and 'DUPLICATE' or 'SEEN'
end

-- Drops marks that the log's clock has passed, the oldest first.
local function forget_marks(call, list, at_ms)
  local passed, latest_ms, gone = 0, 0, {}
  local oldest = redis.call('LRANGE', list, 0, #call.ended + FORGOTTEN_PER_CALL - 1)
  for _, entry in ipairs(oldest) do
    local due_ms, org, req = string.match(entry, '^(%d+)|(.*)|([^|]*)$')
    due_ms = tonumber(due_ms)
    if due_ms >= at_ms then break end
    local key = prefix_of(call.tag, org) .. 'a:' .. req
    local state, job = unpack(redis.call('HMGET', key, 'state', 'job'))
    if not LIVE[state] and not job then gone[#gone + 1] = key end
    passed, latest_ms = passed + 1, math.max(latest_ms, due_ms)
  end
  if passed == 0 then return end
  redis.call('LTRIM', list, passed, -1)
  if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
  local before_ms = tonumber(redis.call('GET', call.keys[5]) or 0)
  redis.call('SET', call.keys[5], dec(math.max(before_ms, latest_ms)))
end

local function keep_marks(call, at_ms)
  local list = call.keys[4]
  if #call.ended > 0 then redis.call('RPUSH', list, unpack(call.ended)) end
  if at_ms > 0 then forget_marks(call, list, at_ms) end
end

-- What the log must have for as long as this shard is its fold.
local function raise_watermark(call, partition, offset)
  if call.tag ~= '{' .. partition .. '}|' then return end
  local before = tonumber(redis.call('HGET', call.keys[1], 'booked') or -1)
  if offset > before then redis.call('HSET', call.keys[1], 'booked', dec(offset)) end
end

--[[ tg1_book: adds outcomes and corrections of one org to its usage tables and totals, each once; and to
its balances what no call settled there: corrections, and outcomes of requests the ledger did not hold. Not ready
while a rebuild brings marks.
KEYS: meta, {org}m, fin, ended, forgot, exp, inf, changed, kept.
ARGV[1]: org, partition, rows in offset order [{offset, at_ms (append time), req, deadline_ms, ran (a
  backend was called), unsettled (it ended while the ledger was closed), is_first (of a row that the
  caller looked up in the log) or null,
  ref (of a correction; left out for the outcome itself), ends (opaque: how a job ended) or null, usage [{hour, row, measures}],
  bookings [{key: suffix of the balance, unit, amount}],
  kept [{key, until_ms}] (of records that the caller writes to the log about the request)}].
Returns: BOOKED(rows [BOOKED | SEEN (offset already passed, by a rebuild perhaps) | DUPLICATE (not the first record of its
  request, whether passed or not)], offset now reached). Fewer rows than were given: the next one has no
  mark, but its mark may have been forgotten; it and those after it changed nothing.
State: {org}m and booked of meta move up; each attempt hash remembers its first record, forgets what it held and its
  outcome, leaves `fin`, and is listed in `ended`, whose oldest entries are forgotten; `changed` and `kept`
  (tables.lua) note what the log has to be told. ]]
local function book(call)
  if call.are_marks_missing then return verdict('NOT_READY') end
  local partition, fates, outcomes, at_ms = dec(call.doc.partition), {}, {}, 0
  local folded = tonumber(redis.call('HGET', call.keys[1], 'folded') or -1)
  local before = math.max(folded, tonumber(redis.call('HGET', call.keys[2], partition) or -1))
  local reached = before
  call.ended, call.changed, call.usage, call.late, call.totals = {}, {}, {}, {}, {}
  for i, row in ipairs(call.doc.rows or {}) do
    if row.offset <= reached then
      fates[i] = fate_of_seen(call, row)
    else
      local fate, is_late = fate_of_new(call, row)
      if not fate then break end
      fates[i], reached, at_ms = fate, row.offset, math.max(at_ms, row.at_ms)
      if not given(row.ref) then outcomes[#outcomes + 1] = call.doc.org .. '|' .. row.req end
      if fate == 'BOOKED' then
        for _, line in ipairs(row.usage or {}) do add_usage(call, line, row.offset) end
        for _, booking in ipairs(row.bookings or {}) do
          add_booking(call, booking, is_late, row.offset)
        end
        keep(call.keys[9], row.kept)
      end
    end
  end
  if reached > before then
    add_sums(call)
    redis.call('HSET', call.keys[2], partition, dec(reached))
    raise_watermark(call, partition, reached)
    if #outcomes > 0 then redis.call('ZREM', call.keys[3], unpack(outcomes)) end
    keep_marks(call, at_ms)
    note_changed(call.keys[8], call.doc.org, call.changed)
  end
  return verdict('BOOKED', {rows = unless_empty(fates), offset = dec(reached)})
end
register('tg1_book', book, EMPTIES)

--[[ tg1_unbooked: what is finished and not booked, the oldest first.
KEYS: meta, fin.
ARGV[1]: until_ms (finished no later), skip, limit.
Returns: UNBOOKED(entries [{org, req, finished_ms}]).
State: unchanged. ]]
local function unbooked(call)
  local doc, entries = call.doc, {}
  local found = redis.call('ZRANGEBYSCORE', call.keys[2], '-inf', dec(doc.until_ms), 'WITHSCORES',
    'LIMIT', dec(doc.skip), dec(doc.limit))
  for i = 1, #found, 2 do
    local org, req = string.match(found[i], '^(.*)|([^|]*)$')
    entries[#entries + 1] = {org = org, req = req, finished_ms = dec(tonumber(found[i + 1]))}
  end
  return verdict('UNBOOKED', {entries = unless_empty(entries)})
end
register('tg1_unbooked', unbooked, {'no-writes'})
