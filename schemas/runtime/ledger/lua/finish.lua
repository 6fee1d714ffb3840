local function refund_rates(call, attempt)
  local used, rates = {}, attempt.holds.rates
  if not rates then return end
  for _, rate in ipairs(call.doc.actual_rates or {}) do
    used[rate.key] = rate.units
  end
  for _, held in ipairs(rates) do
    if used[held.key] then refund_rate(attempt.prefix, call.now_us, held, used[held.key]) end
  end
end

--[[ tg1_finish: closes the running attempt; its real cost is booked even above the hold.
KEYS: meta, attempt hash, exp, inf, fin.
ARGV[1]: org, req, fence, actual {nano_usd, tokens, requests; null or left out: the whole hold},
  actual_rates [{key, units}] (buckets that get the difference to the charge back),
  ends (opaque: how it ended, in short) or null.
ARGV[2]: the encoded outcome.
Returns: OK | {DUPLICATE(booked: as of start), outcome bytes; empty once booked} | STALE(written_off:
  attempts settled whole as lost, of a request that has not finished) | GONE (the owner attaches).
State: RUNNING -> FINISHED, in `fin` and without an expiry until it is booked. ]]
local function finish(call, attempt)
  local state = attempt.state
  if not state or state == 'RESTORED' then return verdict('GONE') end
  if not is_owner(call, attempt) then attempt = whole(attempt) end
  if state == 'BOOKED' or (state == 'FINISHED' and attempt.fence == dec(call.doc.fence)) then
    return {verdict('DUPLICATE', {booked = attempt.booked}), outcome_of(attempt)}
  end
  if not is_owner(call, attempt) then return stale(attempt) end
  settle(attempt.prefix, attempt.holds.balances, call.doc.actual)
  refund_rates(call, attempt)
  drop_leases(attempt)
  drop_spare(attempt)
  redis.call('ZREM', call.inf, attempt.member)
  forget_run(attempt.key)
  if given(call.doc.ends) then redis.call('HSET', attempt.key, 'ends', call.doc.ends) end
  redis.call('HSET', attempt.key, 'state', 'FINISHED', 'outcome', call.bytes)
  redis.call('ZADD', call.keys[5], dec(call.now_ms), attempt.member)
  if not attempt.job then redis.call('PERSIST', attempt.key) end
  return verdict('OK')
end
register_on_attempt('tg1_finish', finish, EMPTIES)
