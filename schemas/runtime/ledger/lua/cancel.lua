--[[ tg1_cancel: a tombstone that admit and start obey.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, deadline_ms (of the request; the tombstone outlives it by 15 min).
Returns: OK | RUNNING(owner: to be told over the bus) | TERMINAL.
State: NONE -> CANCELLED; RESERVED -> CANCELLED, the hold returned; RUNNING keeps running with its
  cancel flag set, which renew reports. ]]
local function cancel(call, attempt)
  local state = attempt.state
  if state == 'RUNNING' then
    redis.call('HSET', attempt.key, 'cancel', '1')
    return verdict('RUNNING', {owner = attempt.owner})
  end
  if state == 'RESERVED' then
    withdraw(attempt, 'CANCELLED')
    redis.call('ZREM', call.exp, attempt.member)
  elseif not state then
    redis.call('HSET', attempt.key, 'state', 'CANCELLED')
    expire_terminal(call, attempt.key, call.doc.deadline_ms, attempt.job)
  elseif state ~= 'CANCELLED' then
    return verdict('TERMINAL')
  end
  return verdict('OK')
end
register_on_attempt('tg1_cancel', cancel, EMPTIES)
