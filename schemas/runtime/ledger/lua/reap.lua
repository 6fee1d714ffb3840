local function attempt_of(call, member)
  local org, req = string.match(member, '^(.*)|([^|]*)$')
  local prefix = prefix_of(call.tag, org)
  return read_attempt(prefix .. 'a:' .. req, prefix, org, req)
end

local function report(call, attempt, state)
  return {
    org = attempt.org,
    req = attempt.req,
    verdict = state,
    attempt = tonumber(attempt.attempt),
    info = attempt.info,
    holds = attempt.holds.balances,
    first = attempt.first and cjson.decode(attempt.first),
    accepted_ms = tonumber(attempt.accepted_ms),
    deadline_ms = attempt.deadline_ms,
    fence = attempt.fence or next_fence(call, attempt),
  }
end

-- A member of exp that is due: voided if it never started, written off if nobody came for it, listed again if it was not confirmed. One
-- that is booked has its outcome in Kafka.
local function reap_due(call, attempt)
  if attempt.state == 'RESERVED' then
    withdraw(call, attempt, 'VOIDED')
    attempt.state = 'VOIDED'
  end
  if attempt.state == 'RESTORED' then
    local until_ms = restored_until(call)
    if call.now_ms < until_ms then
      redis.call('ZADD', call.exp, dec(until_ms), attempt.member)
      return nil
    end
    presume_spent(call, attempt, call.now_ms)
    attempt.state = 'UNKNOWN'
  end
  if attempt.booked or (attempt.state ~= 'VOIDED' and attempt.state ~= 'UNKNOWN') then
    redis.call('ZREM', call.exp, attempt.member)
    return nil
  end
  redis.call('ZADD', call.exp, dec(call.now_ms + REQUEUE_MS), attempt.member)
  return report(call, attempt, attempt.state)
end

-- A member of inf whose lease is long over.
local function reap_abandoned(call, attempt)
  if attempt.state ~= 'RUNNING' then
    redis.call('ZREM', call.inf, attempt.member)
    return nil
  end
  presume_spent(call, attempt, call.now_ms + REQUEUE_MS)
  return report(call, attempt, 'UNKNOWN')
end

-- No lease ends later than the longest that anybody gets: the clock was put back.
local function shorten_leases(call, limit)
  local latest = dec(call.now_ms + GRACE_MS)
  local beyond = redis.call('ZRANGEBYSCORE', call.inf, '(' .. latest, '+inf', 'LIMIT', 0, dec(limit))
  for _, member in ipairs(beyond) do
    local attempt = attempt_of(call, member)
    redis.call('ZADD', call.inf, latest, member)
    if attempt.state == 'RUNNING' then
      redis.call('HSET', attempt.key, 'lease_until_ms', latest)
    end
  end
end

--[[ tg1_reap: ends up to `limit` attempts that nobody ends.
KEYS: meta, exp, inf.
ARGV[1]: limit, grace_ms (how long past its lease a running attempt is left alone).
Returns: REAPED(entries [{org, req, verdict: VOIDED or UNKNOWN, attempt, info, holds [{key, unit,
  amount}], first {attempt, verdict, fence, owner, booked}, accepted_ms, deadline_ms, fence: for its
  last frame, above those of all frames before}]). The holds of an UNKNOWN are what was booked as its
  estimate.
State: RESERVED past its deadline -> VOIDED, hold returned; RESTORED past it, and two leases after the
  rebuild, -> UNKNOWN, spent whole; RUNNING past lease and grace -> UNKNOWN, but
  never within two leases of a time in which nobody reaped (the store was away, or its clock moved).
  Entries are listed again every 30 s until `reaped` confirms them, or they are booked. ]]
local function reap(call)
  local doc, entries = call.doc, {}
  call.exp, call.inf = call.keys[2], call.keys[3]
  local function sweep(queue, until_ms, limit, step)
    local due = redis.call('ZRANGEBYSCORE', queue, '-inf', dec(until_ms), 'LIMIT', 0, dec(limit))
    for _, member in ipairs(due) do
      entries[#entries + 1] = step(call, attempt_of(call, member))
    end
    return limit - #due
  end
  local left = sweep(call.exp, call.now_ms, doc.limit, reap_due)
  shorten_leases(call, doc.limit)
  if call.now_ms >= grace_until(call) then
    sweep(call.inf, call.now_ms - doc.grace_ms, left, reap_abandoned)
  end
  return verdict('REAPED', {entries = unless_empty(entries)})
end
register('tg1_reap', reap, EMPTIES)

--[[ tg1_reaped: confirms that the outcomes of reaped attempts are in Kafka.
KEYS: meta, exp.
ARGV[1]: entries [{org, req}].
Returns: OK.
State: none of the attempts changes; they leave the queue. ]]
local function reaped(call)
  for _, entry in ipairs(call.doc.entries or {}) do
    redis.call('ZREM', call.keys[2], entry.org .. '|' .. entry.req)
  end
  return verdict('OK')
end
register('tg1_reaped', reaped, EMPTIES)
