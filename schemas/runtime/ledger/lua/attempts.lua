--[[ The attempt hash, `{org}a:<request>`.

        admit             start                finish
  NONE ───────► RESERVED ───────► RUNNING ───────────────► FINISHED
   │ refused       │ deadline        │ lease expired
   ▼               ▼                 ▼
  REFUSED        VOIDED           UNKNOWN            CANCELLED: cancel before start
                                                     BOOKED: only its booking is remembered
                                                     RESTORED: by a rebuild (restored.lua)

Fields: state, attempt (1 or 2), holds (JSON: balances, leases, rates, spare), deadline_ms, accepted_ms,
info (opaque), terms (opaque: those of its admission), answer (of admit: the decision), inc (the
latest incarnation known; of a tombstone that was given up, while it has no answer), ran (1: its
outcome has attempts, though the ledger saw none), fence, owner, lease_until_ms, streamed, cancel, first (JSON:
what became of attempt 1), outcome (bytes, until it is booked), booked (partition:offset of its first
outcome), ends (opaque: how it ended, in short), job (opaque: facts of a job).

What an ended attempt needs no more goes when it ends, and its outcome when it is booked: then state,
fence and place remain, until the log is 15 min past its deadline (book.lua). A job is an attempt that stays
for 72 h; its `job`, and `inc`, may stand here before the rest. ]]

local ATTEMPT_FIELDS = {
  'state', 'attempt', 'holds', 'deadline_ms', 'accepted_ms', 'info', 'answer', 'fence', 'owner',
  'lease_until_ms', 'streamed', 'cancel', 'first', 'booked', 'job', 'inc',
}
-- What the usual case of a function needs of them; for any other case it asks whole().
local USUAL_FIELDS = {
  tg1_admit = {'state', 'inc', 'job'},
  tg1_start = {'state', 'attempt', 'deadline_ms', 'fence'},
  tg1_readmit = {'state', 'attempt', 'deadline_ms', 'fence', 'job'},
  tg1_finish = {'state', 'fence', 'holds', 'job'},
}
local RUN_FIELDS = {
  'attempt', 'holds', 'deadline_ms', 'accepted_ms', 'info', 'terms', 'answer', 'owner',
  'lease_until_ms', 'streamed', 'cancel', 'first', 'inc',
}

-- How long after an outage owners may take to renew their leases.
local GRACE_MS = 2 * ATTEMPT_LEASE_MS

local function read_fields(attempt, fields)
  local stored = redis.call('HMGET', attempt.key, unpack(fields))
  for i, field in ipairs(fields) do
    attempt[field] = stored[i] or nil
  end
  attempt.holds = attempt.holds and cjson.decode(attempt.holds) or {}
  attempt.deadline_ms = tonumber(attempt.deadline_ms)
  attempt.inc = tonumber(attempt.inc or 0)
  return attempt
end

local function read_attempt(key, prefix, org, req, fields)
  local attempt = {key = key, org = org, req = req, prefix = prefix, member = org .. '|' .. req}
  return read_fields(attempt, fields or ATTEMPT_FIELDS)
end

-- The attempt with all of its fields, once it is no usual case. Before anything of it is written.
local function whole(attempt)
  return read_fields(attempt, ATTEMPT_FIELDS)
end

--[[ Whether the log may have an end of the request that is not marked here yet: a rebuild has opened the shard,
and still brings marks. `awaited` is a Bloom filter of the requests whose marks are to come, of as many bits as a power of two;
two bits stand for each, told by the last and the last but one six digits of its id, which are random (RFC 9562). Of an id
that is none of ours nothing is told. ]]
local function is_awaited(call, attempt)
  if attempt.booked then return false end
  if attempt.state and attempt.state ~= 'CANCELLED' then return false end
  local first, second = string.match(attempt.req, '(%x%x%x%x%x%x)(%x%x%x%x%x%x)$')
  if not first then return true end
  local filter = call.tag .. 'awaited'
  local bits = redis.call('STRLEN', filter) * 8
  if bits == 0 then return true end
  return redis.call('GETBIT', filter, tonumber(first, 16) % bits) == 1
    and redis.call('GETBIT', filter, tonumber(second, 16) % bits) == 1
end

-- Registers a function on one attempt; of one whose mark is awaited nothing is decided. KEYS: meta, attempt hash, exp, inf.
local function register_on_attempt(name, body, flags)
  register(name, function(call)
    call.exp, call.inf = call.keys[3], call.keys[4]
    local fields = not call.are_marks_missing and USUAL_FIELDS[name] or ATTEMPT_FIELDS
    local attempt = read_attempt(call.keys[2], call.prefix, call.doc.org, call.doc.req, fields)
    if call.are_marks_missing and is_awaited(call, attempt) then return verdict('NOT_READY') end
    return body(call, attempt)
  end, flags)
end

-- Fences of one request grow; those of a later epoch are above all of an earlier one.
local function next_fence(call, attempt)
  local n = tonumber(attempt.fence or 0) % EPOCH_FENCES + 1
  return dec(call.epoch * EPOCH_FENCES + n)
end

-- Whether a fence was given before the last rebuild.
local function is_of_earlier_life(call, fence)
  return tonumber(fence or 0) < call.epoch * EPOCH_FENCES
end

local function is_owner(call, attempt)
  return attempt.state == 'RUNNING' and attempt.fence == dec(call.doc.fence)
end

-- Of an ended attempt that nobody will ask what it held.
local function forget_run(key)
  redis.call('HDEL', key, unpack(RUN_FIELDS))
end

-- A tombstone whose request may never come is remembered for a while; a job has its own time.
local function expire_terminal(call, key, deadline_ms, job)
  if job then return end
  redis.call('PEXPIREAT', key, dec(math.max(deadline_ms, call.now_ms) + TERMINAL_KEPT_MS))
end

-- A decision against the request is kept, so that no copy of it hears another; once it is booked its mark
-- leaves as any other.
local function keep_refusal(call, attempt, answer, deadline_ms)
  redis.call('HSET', attempt.key, 'state', 'REFUSED', 'answer', answer,
    'deadline_ms', dec(deadline_ms))
  if not attempt.job then
    redis.call('PEXPIREAT', attempt.key, dec(call.now_ms + ATTEMPT_KEPT_MS))
  end
  return answer
end

local function drop_leases(attempt)
  for _, key in ipairs(attempt.holds.leases or {}) do
    redis.call('ZREM', attempt.prefix .. key, attempt.req)
  end
end

local function take_leases(prefix, req, leases, deadline_ms)
  local taken = {}
  for i, lease in ipairs(leases) do
    redis.call('ZADD', prefix .. lease.key, dec(deadline_ms + CONCURRENCY_MARGIN_MS), req)
    taken[i] = lease.key
  end
  return unless_empty(taken)
end

-- To whoever runs what is not his any more: which attempts were settled whole as lost. Of one that is booked
-- the log says it.
local function stale(attempt)
  local state, lost = attempt.state, {}
  if (state == 'RUNNING' or state == 'UNKNOWN') and attempt.first
    and cjson.decode(attempt.first).verdict == 'UNKNOWN' then lost[1] = 1 end
  if state == 'UNKNOWN' and not attempt.booked then lost[#lost + 1] = tonumber(attempt.attempt) end
  return verdict('STALE', {written_off = unless_empty(lost)})
end

-- Until when an owner may attach after a rebuild; never later than two leases from now. That begins when marks are
-- back: before, what has ended meanwhile is in the log, and cannot be booked.
local function restored_until(call)
  if call.are_marks_missing then return call.now_ms + GRACE_MS end
  local ready_ms = tonumber(redis.call('HGET', call.keys[1], 'ready_ms') or 0)
  if ready_ms > call.now_ms then
    ready_ms = call.now_ms
    redis.call('HSET', call.keys[1], 'ready_ms', dec(ready_ms))
  end
  return ready_ms + GRACE_MS
end

-- What a restored request holds once more returns.
local function drop_spare(attempt)
  if not attempt.holds.spare then return end
  for _, held in ipairs(attempt.holds.spare) do
    add(attempt.prefix .. held.key, 'spare', -tonumber(held.amount))
  end
  attempt.holds.spare = false
  redis.call('HSET', attempt.key, 'holds', cjson.encode(attempt.holds))
end

-- A tombstone that no copy of the request has met: a later incarnation lifts it.
local function is_unheard(attempt)
  return attempt.state == 'CANCELLED' and not attempt.answer and not attempt.booked
end

local function outcome_of(attempt)
  return redis.call('HGET', attempt.key, 'outcome') or ''
end

-- RESERVED -> `state`: it never ran, so the hold, the leases and the units of rates return whole.
local function withdraw(call, attempt, state)
  void(attempt.prefix, attempt.holds.balances)
  for _, held in ipairs(attempt.holds.rates or {}) do
    refund_rate(attempt.prefix, call.now_us, held, 0)
  end
  drop_leases(attempt)
  drop_spare(attempt)
  redis.call('HSET', attempt.key, 'state', state)
end

--[[ While the store is away nobody can renew a lease, and a clock that is moved ends leases at once. So a
time in which nobody looked for abandoned attempts, longer than a lease, is an outage: until two leases
after it nobody's lease is over. Returns when that ends; in the past when there is none.
State: meta.seen_ms (when somebody looked last), meta.grace_until. ]]
local function grace_until(call)
  local meta, now_ms = call.keys[1], call.now_ms
  local stored = redis.call('HMGET', meta, 'seen_ms', 'grace_until')
  local seen_ms, until_ms = tonumber(stored[1] or now_ms), tonumber(stored[2] or 0)
  if now_ms - seen_ms > ATTEMPT_LEASE_MS or until_ms > now_ms + GRACE_MS then
    until_ms = now_ms + GRACE_MS
  end
  redis.call('HSET', meta, 'seen_ms', dec(now_ms), 'grace_until', dec(until_ms))
  return until_ms
end

-- RUNNING -> UNKNOWN: the whole hold is booked as the estimate, and the old fence is void. It
-- waits in exp from `due_ms` on, until `reaped` confirms that its outcome is in Kafka.
local function presume_spent(call, attempt, due_ms)
  settle(attempt.prefix, attempt.holds.balances)
  drop_leases(attempt)
  drop_spare(attempt)
  attempt.fence = next_fence(call, attempt)
  redis.call('HSET', attempt.key, 'state', 'UNKNOWN', 'fence', attempt.fence)
  redis.call('ZREM', call.inf, attempt.member)
  redis.call('ZADD', call.exp, dec(due_ms), attempt.member)
end

-- Opens attempt 2 with a hold of its own. What became of attempt 1 (`v`: UNKNOWN or FAILED) and
-- what was booked for it stay on record.
local function open_second(attempt, balances, v, booked)
  local first = {attempt = 1, verdict = v, fence = attempt.fence, owner = attempt.owner,
    booked = booked}
  attempt.holds.balances = hold(attempt.prefix, balances)
  attempt.first, attempt.attempt = cjson.encode(first), '2'
  redis.call('HSET', attempt.key, 'attempt', '2', 'first', attempt.first,
    'holds', cjson.encode(attempt.holds))
  return first
end
