-- True when this very failover was done before and its answer got lost.
local function is_repeated(call, attempt)
  if attempt.state ~= 'RUNNING' or not attempt.first then return false end
  local first = cjson.decode(attempt.first)
  return first.verdict == 'FAILED' and first.fence == dec(call.doc.fence)
end

--[[ tg1_next_attempt: failover inside the dispatcher that owns the fence.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, fence, may_have_spent, second [balances as in admit],
  estimate {unit: amount} of attempt 1, booked when it may have spent (a unit left out: whole hold).
Returns: FENCE(fence, attempt) | REFUSED(why: attempts, streamed or spent, ...) | CONTENDED | STALE
  | GONE | CANCELLED | EXPIRED. Whatever is not FENCE changed nothing: attempt 1 runs on.
  A repeated call gets the same FENCE.
State: RUNNING -> RUNNING with the next fence: the first hold returns (or its estimate is settled),
  the second is taken. ]]
local function next_attempt(call, attempt)
  local doc = call.doc
  if not attempt.state or attempt.state == 'RESTORED' then return verdict('GONE') end
  if is_repeated(call, attempt) then
    return verdict('FENCE', {fence = attempt.fence, attempt = 2})
  end
  if not is_owner(call, attempt) then return verdict('STALE') end
  if attempt.cancel then return verdict('CANCELLED') end
  if call.now_ms >= attempt.deadline_ms then return verdict('EXPIRED') end
  if attempt.attempt ~= '1' then return verdict('REFUSED', {why = 'attempts'}) end
  if attempt.streamed ~= '0' then return verdict('REFUSED', {why = 'streamed'}) end
  local actual = doc.may_have_spent and (doc.estimate or {}) or NOTHING_SPENT
  local moved = spending(attempt.holds.balances, actual)
  local v, fields = ask_balances(attempt.prefix, doc.second or {}, moved)
  if v then return verdict(v, fields) end
  local booked = bookings_of(attempt.holds.balances, actual)
  settle(attempt.prefix, attempt.holds.balances, actual)
  open_second(attempt, doc.second or {}, 'FAILED', booked)
  local fence = next_fence(call, attempt)
  redis.call('HSET', attempt.key, 'fence', fence)
  return verdict('FENCE', {fence = fence, attempt = 2})
end
register_on_attempt('tg1_next_attempt', next_attempt, EMPTIES)
