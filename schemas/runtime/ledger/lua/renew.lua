--[[ tg1_renew: extends the lease of a running attempt.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, fence, lease_ms, streamed (true: content is about to reach the client).
Returns: OK | CANCELLED (extended too, so that the owner can wind down) | STALE | GONE (the owner attaches).
State: RUNNING stays; lease_until_ms and streamed change. The spare of an attached one returns two leases after
  the rebuild. ]]
local function renew(call, attempt)
  if not attempt.state or attempt.state == 'RESTORED' then return verdict('GONE') end
  if not is_owner(call, attempt) then return verdict('STALE') end
  if attempt.holds.spare and is_of_earlier_life(call, attempt.fence)
    and call.now_ms >= restored_until(call) then drop_spare(attempt) end
  local lease_until_ms = dec(call.now_ms + call.doc.lease_ms)
  redis.call('HSET', attempt.key, 'lease_until_ms', lease_until_ms)
  if call.doc.streamed == true then redis.call('HSET', attempt.key, 'streamed', '1') end
  redis.call('ZADD', call.inf, lease_until_ms, attempt.member)
  return verdict(attempt.cancel and 'CANCELLED' or 'OK')
end
register_on_attempt('tg1_renew', renew, EMPTIES)
