-- Of one incarnation, or (with an answer, as if a copy had heard it) of all.
local function bury(call, attempt, incarnation_ms)
  local of_all = not given(incarnation_ms)
  redis.call('HSET', attempt.key, 'state', 'CANCELLED',
    of_all and 'answer' or 'inc', of_all and verdict('CANCELLED') or dec(incarnation_ms))
  expire_terminal(call, attempt.key, call.doc.deadline_ms, attempt.job)
end

--[[ tg1_cancel: a tombstone that admit and start obey.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, deadline_ms (of the request; the tombstone outlives it by 15 min),
  incarnation_ms (the produce that was given up) or null (whoever runs, and for ever).
Returns: OK | RUNNING(owner: to be told over the bus) | TERMINAL | STALE (a later incarnation is known).
State: NONE -> CANCELLED; RESERVED -> CANCELLED, hold and rate units returned; RUNNING keeps running with its
  cancel flag set, which renew reports; so does RESTORED, whose owner hears it when it attaches. ]]
local function cancel(call, attempt)
  local state, incarnation_ms = attempt.state, call.doc.incarnation_ms
  if given(incarnation_ms) and incarnation_ms < attempt.inc then return verdict('STALE') end
  if state == 'RUNNING' or state == 'RESTORED' then
    redis.call('HSET', attempt.key, 'cancel', '1')
    return verdict('RUNNING', {owner = attempt.owner or ''})
  end
  if state == 'RESERVED' then
    withdraw(call, attempt, 'CANCELLED')
    redis.call('ZREM', call.exp, attempt.member)
  elseif not state or is_unheard(attempt) then
    bury(call, attempt, incarnation_ms)
  elseif state ~= 'CANCELLED' then
    return verdict('TERMINAL')
  end
  return verdict('OK')
end
register_on_attempt('tg1_cancel', cancel, EMPTIES)
