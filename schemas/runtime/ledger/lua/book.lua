local function add_usage(call, line)
  local key = call.prefix .. 'u:' .. line.hour
  for measure, amount in pairs(line.measures) do
    add(key, line.row .. '\t' .. measure, amount)
  end
  redis.call('PEXPIREAT', key, dec(call.now_ms + TABLE_KEPT_MS), 'NX')
end

-- A total leaves the store together with its balance.
local function add_total(call, booking)
  local key = call.prefix .. 't:' .. string.sub(booking.key, 3)
  add(key, 'settled', booking.amount)
  local expires_ms = redis.call('PEXPIRETIME', call.prefix .. booking.key)
  if expires_ms > 0 then redis.call('PEXPIREAT', key, dec(expires_ms)) end
end

-- Where the record that was booked for this request (and reference) stands, and where this one does.
local function places(call, row)
  local key = call.prefix .. 'a:' .. row.req
  local field = given(row.ref) and 'booked:' .. row.ref or 'booked'
  local place = dec(call.doc.partition) .. ':' .. dec(row.offset)
  return key, field, place
end

local LIVE = {RESERVED = true, RUNNING = true}

-- A hash that once held a long value keeps its wide form: written anew it takes a fourth.
local function rewrite(key)
  local kept, until_ms = redis.call('HGETALL', key), redis.call('PEXPIRETIME', key)
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(kept))
  if until_ms > 0 then redis.call('PEXPIREAT', key, dec(until_ms)) end
end

-- The outcome of an attempt stands in the log now: what the ledger kept for it can go. The end of a job
-- that ended without `finish` comes with its outcome.
local function settle_in_log(key, row, state, job, ends)
  if LIVE[state] then return end
  redis.call('HDEL', key, 'outcome')
  forget_run(key)
  if job and not ends and given(row.ends) then redis.call('HSET', key, 'ends', row.ends) end
  rewrite(key)
end

-- True when no other record was booked for this request (and reference) before.
local function is_first(call, row)
  local key, field, place = places(call, row)
  local stored = redis.call('HMGET', key, field, 'state', 'job', 'ends')
  local first, state, job, ends = unpack(stored)
  if first then return first == place end
  redis.call('HSET', key, field, place, 'state', state or 'BOOKED')
  if not given(row.ref) then settle_in_log(key, row, state, job, ends) end
  expire_terminal(call, key, row.deadline_ms, job)
  return true
end

-- What a record below the mark was when it was booked; a copy stays a copy while its attempt is kept.
local function fate_of_seen(call, row)
  local key, field, place = places(call, row)
  local first = redis.call('HGET', key, field)
  return (first and first ~= place) and 'DUPLICATE' or 'SEEN'
end

--[[ tg1_book: adds outcomes of one org to its usage tables and totals, each once.
KEYS: meta, {org}:m.
ARGV[1]: org, partition, rows in offset order [{offset, req, deadline_ms,
  ref (of an adjustment; left out for the outcome itself), ends (opaque: how a request that no finish
  ended did end) or null, usage [{hour, row, measures}],
  bookings [{key: suffix of the balance, unit, amount}]}].
Returns: BOOKED(rows [BOOKED | SEEN (offset already passed) | DUPLICATE (not the first record of its
  request, whether passed or not)], offset now reached).
State: {org}:m moves up; each attempt hash remembers its first record, forgets what it held and its
  outcome, and expires. ]]
local function book(call)
  local field, rows = dec(call.doc.partition), {}
  local reached = tonumber(redis.call('HGET', call.keys[2], field) or -1)
  for i, row in ipairs(call.doc.rows or {}) do
    if row.offset <= reached then
      rows[i] = fate_of_seen(call, row)
    else
      reached = row.offset
      rows[i] = is_first(call, row) and 'BOOKED' or 'DUPLICATE'
    end
    if rows[i] == 'BOOKED' then
      for _, line in ipairs(row.usage or {}) do add_usage(call, line) end
      for _, booking in ipairs(row.bookings or {}) do add_total(call, booking) end
    end
  end
  if reached >= 0 then redis.call('HSET', call.keys[2], field, dec(reached)) end
  return verdict('BOOKED', {rows = unless_empty(rows), offset = dec(reached)})
end
register('tg1_book', book, EMPTIES)
