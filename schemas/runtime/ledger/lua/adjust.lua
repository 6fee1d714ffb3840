--[[ tg1_adjust: the only correction of a booked amount.
KEYS: meta, the key that remembers this adjustment.
ARGV[1]: org, deltas [{key, unit, amount (signed)}].
Returns: OK | DUPLICATE.
State: settled changes; an increase has no hold behind it and is counted in `late`. ]]
local function adjust(call)
  local until_ms = dec(call.now_ms + ATTEMPT_KEPT_MS)
  if not redis.call('SET', call.keys[2], '1', 'NX', 'PXAT', until_ms) then
    return verdict('DUPLICATE')
  end
  for _, delta in ipairs(call.doc.deltas or {}) do
    local key = call.prefix .. delta.key
    add(key, 'settled', delta.amount)
    add(key, 'late', math.max(0, delta.amount))
  end
  return verdict('OK')
end
register('tg1_adjust', adjust, EMPTIES)
