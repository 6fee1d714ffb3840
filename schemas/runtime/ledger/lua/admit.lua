-- The first limit that stands against the call: verdict, fields; else nil, nil, the buckets asked.
local function ask_limits(call)
  local doc, buckets = call.doc, {}
  for i, rate in ipairs(doc.rates or {}) do
    local bucket, v, fields = ask_rate(call, rate)
    if v then return v, fields end
    buckets[i] = bucket
  end
  for _, lease in ipairs(doc.leases or {}) do
    local key = call.prefix .. lease.key
    redis.call('ZREMRANGEBYSCORE', key, '-inf', dec(call.now_ms))
    local usage = redis.call('ZCARD', key)
    if usage >= lease.limit then
      return 'LIMITED', {id = lease.id, retry_after_ms = RETRY_GUESS_MS, usage = dec(usage),
        limit = dec(lease.limit)}
    end
  end
  for _, balance in ipairs(doc.balances or {}) do
    if is_rolled(call, balance) then return 'ROLLED', {id = balance.id} end
  end
  local v, fields = ask_balances(call.prefix, doc.balances or {})
  return v, fields, buckets
end

-- Whether the caller asks again instead of refusing: nothing is kept of such an answer.
local function is_waited_for(call, v, id)
  if v == 'ROLLED' then return true end
  if v ~= 'CONTENDED' and v ~= 'LIMITED' then return false end
  if call.doc.defer == true then return true end
  for _, limit in ipairs(call.doc.waits_for or {}) do
    if v == 'LIMITED' and limit == id then return true end
  end
  return false
end

-- A refusal that is answered is kept, so that a redelivery cannot flip it.
local function refuse(call, attempt, v, fields)
  local id = fields.id
  local answer = verdict(v, fields)
  if is_waited_for(call, v, id) then return answer end
  redis.call('HSET', attempt.key, 'state', 'REFUSED', 'answer', answer,
    'deadline_ms', dec(call.doc.deadline_ms))
  expire_terminal(call, attempt.key, call.doc.deadline_ms, attempt.job)
  return answer
end

local function reserve(call, attempt, buckets)
  local doc, remaining, rates = call.doc, {}, {}
  for i, rate in ipairs(doc.rates or {}) do
    remaining[i] = take_rate(call, rate, buckets[i])
    rates[i] = {key = rate.key, cost = rate.cost, rate_milli_per_s = rate.rate_milli_per_s}
  end
  local holds = {
    balances = hold(call.prefix, doc.balances or {}),
    leases = take_leases(call.prefix, doc.req, doc.leases or {}, doc.deadline_ms),
    rates = unless_empty(rates),
  }
  local answer = verdict('ADMITTED', {remaining = unless_empty(remaining)})
  redis.call('HSET', attempt.key, 'state', 'RESERVED', 'attempt', '1', 'answer', answer,
    'holds', cjson.encode(holds), 'deadline_ms', dec(doc.deadline_ms),
    'accepted_ms', dec(doc.accepted_ms), 'info', doc.info or '')
  redis.call('PEXPIREAT', attempt.key, dec(call.now_ms + ATTEMPT_KEPT_MS))
  redis.call('ZADD', call.exp, dec(doc.deadline_ms), attempt.member)
  return answer
end

--[[ tg1_admit: decides all limits of one request at once, all or nothing, and takes its hold.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, deadline_ms, accepted_ms, info,
  rates [{key, id, cost, burst (units), rate_milli_per_s (1/1000 unit per s)}],
  leases [{key, id, limit}], asked after the rates,
  balances [{key, id, unit, amount, limit or null (only tracked), start_ms, end_ms or null}], last,
  defer (true: a LIMITED or CONTENDED answer is not kept, the caller asks again),
  waits_for [limit ids] (a LIMITED by one of them is not kept either),
  shed {why, retry_after_ms} or null (refused without asking any limit, because of its caller).
Returns: ADMITTED(remaining [{id, limit, remaining, reset_ms}]) | LIMITED(id, usage, limit,
  retry_after_ms) | REFUSED(why: spent or too_large, id, usage, limit) | CONTENDED(id, usage, limit,
  retry_after_ms) | SHED(why, retry_after_ms) | ROLLED(id) | EXPIRED | DUPLICATE(answer, null once
  booked) | CANCELLED.
State: NONE -> RESERVED, or NONE -> REFUSED. ]]
local function admit(call, attempt)
  if attempt.state == 'CANCELLED' then return verdict('CANCELLED') end
  if attempt.state then
    return '{"v":"DUPLICATE","answer":' .. (attempt.answer or 'null') .. '}'
  end
  if call.now_ms >= call.doc.deadline_ms then return verdict('EXPIRED') end
  local shed = call.doc.shed
  if given(shed) then return refuse(call, attempt, 'SHED', shed) end
  local v, fields, buckets = ask_limits(call)
  if v then return refuse(call, attempt, v, fields) end
  return reserve(call, attempt, buckets)
end
register_on_attempt('tg1_admit', admit)
