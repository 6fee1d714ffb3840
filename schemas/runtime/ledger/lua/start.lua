-- RESERVED or an opened second attempt -> RUNNING under a new fence and lease.
local function run(call, attempt, unknown)
  local doc, fence = call.doc, next_fence(call, attempt)
  local lease_until_ms = dec(call.now_ms + doc.lease_ms)
  redis.call('HSET', attempt.key, 'state', 'RUNNING', 'fence', fence, 'owner', doc.owner,
    'lease_until_ms', lease_until_ms, 'streamed', '0')
  redis.call('ZREM', call.exp, attempt.member)
  redis.call('ZADD', call.inf, lease_until_ms, attempt.member)
  return verdict('FENCE', {fence = fence, attempt = tonumber(attempt.attempt), unknown = unknown})
end

local function may_open_second(call, attempt)
  return attempt.attempt == '1' and attempt.streamed ~= '1' and not attempt.cancel
    and call.now_ms < attempt.deadline_ms and given(call.doc.second_attempt)
end

-- The request was counted with its first attempt, whose hold is settled whole: a second one counts it
-- no more.
local function uncounted(balances)
  if not given(balances) then return nil end
  for _, balance in ipairs(balances) do
    if balance.unit == 'requests' then balance.amount = 0 end
  end
  return balances
end

-- The owner let its lease expire: its attempt counts as spent whole; a second one may follow.
local function succeed(call, attempt)
  local second = uncounted(call.doc.second_attempt)
  local moved = spending(attempt.holds.balances)
  if may_open_second(call, attempt) and not ask_balances(attempt.prefix, second, moved) then
    local booked = bookings_of(attempt.holds.balances)
    settle(attempt.prefix, attempt.holds.balances)
    return run(call, attempt, open_second(attempt, second, 'UNKNOWN', booked))
  end
  presume_spent(call, attempt, call.now_ms)
  return verdict('UNKNOWN')
end

-- RESTORED: who claims it `fresh` knows that nobody else can have run it. Others wait until an owner would
-- have attached, and ask the log whether it ended; then it counts as an attempt that was lost.
local function claim_restored(call, attempt)
  local doc, is_over = call.doc, call.now_ms >= attempt.deadline_ms
  if doc.fresh == true and is_over then withdraw(call, attempt, 'VOIDED') end
  if is_over then return verdict('EXPIRED') end
  if doc.fresh == true and attempt.cancel then
    withdraw(call, attempt, 'CANCELLED')
    redis.call('ZREM', call.exp, attempt.member)
    redis.call('HSET', attempt.key, 'answer', verdict('CANCELLED'))
    return verdict('CANCELLED')
  end
  if doc.fresh == true then return run(call, attempt) end
  local left_ms = restored_until(call) - call.now_ms
  if left_ms > 0 then return verdict('BUSY', {ms = left_ms, owner = '', fence = '0', attempt = 1}) end
  if doc.asked ~= true then return verdict('RESTORED') end
  return succeed(call, attempt)
end

-- What a claim finds of a request that the ledger knows.
local function claim_known(call, attempt)
  local state = attempt.state
  if state == 'RESERVED' and call.now_ms < attempt.deadline_ms then return run(call, attempt) end
  attempt = whole(attempt)
  if state == 'RESTORED' then return claim_restored(call, attempt) end
  if state == 'RUNNING' then
    local left_ms = tonumber(attempt.lease_until_ms) - call.now_ms
    if left_ms <= 0 then
      -- Asked again within a lease, so that waiting is no gap in which nobody looked.
      left_ms = math.min(grace_until(call) - call.now_ms, math.floor(ATTEMPT_LEASE_MS / 2))
    end
    if left_ms <= 0 then return succeed(call, attempt) end
    return verdict('BUSY', {ms = left_ms, owner = attempt.owner, fence = attempt.fence,
      attempt = tonumber(attempt.attempt)})
  end
  if state == 'FINISHED' or state == 'BOOKED' then
    return {verdict('FINISHED', {booked = attempt.booked}), outcome_of(attempt)}
  end
  if state == 'REFUSED' and attempt.answer then return attempt.answer end
  if state == 'UNKNOWN' or state == 'CANCELLED' then return verdict(state) end
  return verdict('EXPIRED')
end

--[[ tg1_start: claims a request for its owner.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, owner, lease_ms, second_attempt [balances as in admit] or null; of what was restored:
  fresh (nobody but the caller can have run it), asked (the log has no outcome of it).
Returns: FENCE(fence, attempt, unknown {attempt, verdict, fence, owner, booked}: the
  attempt 1 that was given up) | BUSY(ms, owner, fence, attempt) | RESTORED (ask the log) | {FINISHED(booked: partition:offset
  of its outcome, once it stands there), outcome bytes, empty once booked} | UNKNOWN | EXPIRED | CANCELLED | GONE | LIMITED, REFUSED, CONTENDED, DECLINED (the
  decision that is kept, until that is booked).
State: RESERVED -> RUNNING; RESTORED -> RUNNING, as attempt 1 when fresh, else as attempt 2 and past the time
  of its owner, or UNKNOWN; fresh past its deadline -> VOIDED, cancelled -> CANCELLED; RUNNING past its lease -> RUNNING (attempt 2) or UNKNOWN, due for reap
  at once, but not in an outage's grace. A RESERVED one past its deadline is left to reap. ]]
local function start(call, attempt)
  if not attempt.state then return verdict('GONE') end
  return claim_known(call, attempt)
end
register_on_attempt('tg1_start', start, EMPTIES)

--[[ tg1_readmit: claims a request that the ledger may have been rebuilt without; then it takes its hold
again. Apart from start, because a full store closes what runs and takes nothing new.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: as of start, and readmit {balances, leases, deadline_ms, accepted_ms, info}. Only balances are
  asked, in the period of the admission; rates were charged in the life before.
Returns: as start; REFUSED and CONTENDED may also be of the readmission; never GONE.
State: as start; NONE -> RUNNING, or NONE -> REFUSED: the refusal is kept. ]]
local function readmit(call, attempt)
  if attempt.state then return claim_known(call, attempt) end
  local again = call.doc.readmit
  local v, fields = nil, {}
  if call.now_ms >= again.deadline_ms then
    v = 'EXPIRED'
  else
    v, fields = ask_balances(attempt.prefix, again.balances or {})
  end
  if v then return keep_refusal(call, attempt, verdict(v, fields), again.deadline_ms) end
  attempt.attempt = '1'
  attempt.holds = {
    balances = hold(attempt.prefix, again.balances or {}),
    leases = take_leases(attempt.prefix, attempt.req, again.leases or {}, again.deadline_ms),
  }
  redis.call('HSET', attempt.key, 'attempt', '1', 'holds', cjson.encode(attempt.holds),
    'deadline_ms', dec(again.deadline_ms), 'accepted_ms', dec(again.accepted_ms),
    'info', again.info or '')
  redis.call('PEXPIREAT', attempt.key, dec(call.now_ms + ATTEMPT_KEPT_MS))
  return run(call, attempt)
end
register_on_attempt('tg1_readmit', readmit)
