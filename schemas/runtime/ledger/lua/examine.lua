-- What an attempt holds, or has settled and nobody has booked; nil of one that neither holds nor waits.
local SPEAKS = {RESERVED = true, RUNNING = true, RESTORED = true, UNKNOWN = true, FINISHED = true}
local EXAMINED_BYTES_MAX = 4194304

local function examined(call, req, outcomes)
  local key = call.prefix .. 'a:' .. req
  local state, holds, first, booked, outcome = unpack(
    redis.call('HMGET', key, 'state', 'holds', 'first', 'booked', 'outcome'))
  if not SPEAKS[state] then return nil end
  local attempt = {req = req, state = state, booked = booked or nil}
  local held = cjson.decode(holds or '{}')
  attempt.holds = unless_empty(held.balances or {})
  attempt.spare = unless_empty(held.spare or {})
  attempt.first = unless_empty(first and cjson.decode(first).booked or {})
  if outcome then
    outcomes[#outcomes + 1] = outcome
    outcomes.bytes = outcomes.bytes + #outcome
    attempt.outcome_bytes = #outcome
  end
  return attempt
end

-- The requests of the org among those that run, wait or are not booked; nil when there are too many to look at.
local function under_way(call, first_queue)
  local found, wanted = {}, call.doc.org .. '|'
  local left = call.doc.limit
  for i = first_queue, #call.keys do left = left - redis.call('ZCARD', call.keys[i]) end
  if left < 0 then return nil end
  for i = first_queue, #call.keys do
    for _, member in ipairs(redis.call('ZRANGE', call.keys[i], 0, -1)) do
      local org, req = string.match(member, '^(.*)|([^|]*)$')
      if org .. '|' == wanted then found[req] = true end
    end
  end
  return found
end

--[[ tg1_examine: an org's tables, and what its attempts hold or have settled beside them, at one instant.
KEYS: meta, {org}m, exp, inf, fin.
ARGV[1]: org, hours [hour], balances [suffix], limit (of attempts of the shard that are looked at).
Returns: {EXAMINED(reached: the last outcome that is booked or was
  folded by a rebuild, -1; usage, balances, totals as of snapshot;
  attempts [{req, state, booked, holds [{key, unit, amount}], spare [{key, amount}], first: what was booked for attempt 1,
  outcome_bytes}], more: of attempts there are too many, and none is listed), the outcomes of those that have
  one, one behind the other}. Balances that are held are there without being asked for.
State: unchanged. ]]
local function examine(call)
  local usage, balances, totals, attempts, outcomes = {}, {}, {}, {}, {bytes = 0}
  local requests = under_way(call, 3)
  local wanted = {}
  for _, key in ipairs(call.doc.balances or {}) do wanted[key] = true end
  for req in pairs(requests or {}) do
    local attempt = examined(call, req, outcomes)
    attempts[#attempts + 1] = attempt
    for _, held in ipairs(attempt and attempt.holds or {}) do wanted[held.key] = true end
    for _, held in ipairs(attempt and attempt.spare or {}) do wanted[held.key] = true end
  end
  for _, hour in ipairs(call.doc.hours or {}) do
    usage[hour] = read_hash(call.prefix .. 'u:' .. hour)
  end
  for key in pairs(wanted) do
    balances[key] = read_hash(call.prefix .. key)
    totals[key] = read_hash(total_of(call.prefix, key))
  end
  local more = requests == nil or outcomes.bytes > EXAMINED_BYTES_MAX
  local folded = tonumber(redis.call('HGET', call.keys[1], 'folded') or -1)
  local reached = math.max(folded, tonumber(redis.call('HVALS', call.keys[2])[1] or -1))
  return {verdict('EXAMINED', {reached = dec(reached), usage = usage, balances = balances,
    totals = totals, attempts = not more and unless_empty(attempts) or nil, more = more}),
    more and '' or table.concat(outcomes)}
end
register('tg1_examine', examine, {'no-writes'})
