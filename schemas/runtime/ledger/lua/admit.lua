-- How many leases are taken. Those that outlived their requests are dropped once they are in the way.
local function count_leases(call, key, limit)
  local usage = redis.call('ZCARD', key)
  if usage < limit then return usage end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', dec(call.now_ms))
  return redis.call('ZCARD', key)
end

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
    local usage = count_leases(call, key, lease.limit)
    if usage >= lease.limit then
      return 'LIMITED', {id = lease.id, retry_after_ms = RETRY_GUESS_MS, usage = dec(usage),
        limit = dec(lease.limit)}
    end
  end
  for _, balance in ipairs(doc.balances or {}) do
    if is_rolled(call, balance) then return 'ROLLED', {id = balance.id or '', now_ms = dec(call.now_ms)} end
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

local function refuse(call, attempt, v, fields)
  local id = fields.id
  local answer = verdict(v, fields)
  if is_waited_for(call, v, id) then return answer end
  return keep_refusal(call, attempt, answer, call.doc.deadline_ms)
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
    'accepted_ms', dec(doc.accepted_ms), 'info', doc.info or '', 'terms', doc.terms or '',
    'inc', dec(math.max(doc.incarnation_ms or 0, attempt.inc)))
  redis.call('PEXPIREAT', attempt.key, dec(call.now_ms + ATTEMPT_KEPT_MS))
  redis.call('ZADD', call.exp, dec(doc.deadline_ms), attempt.member)
  return answer
end

-- A copy that came too late, while somebody produced the request again.
local function is_superseded(doc, attempt)
  return given(doc.decline) and doc.decline.why == 'late'
    and (doc.incarnation_ms or 0) < attempt.inc
end

-- A tombstone of an incarnation that was given up does not stop a later one, unless it was answered.
local function is_lifted(doc, attempt)
  return is_unheard(attempt) and (doc.incarnation_ms or 0) > attempt.inc
end

-- An admission that its own limiter cannot follow: what it holds returns, and nobody else follows it.
local function is_taken_back(doc, attempt)
  return attempt.state == 'RESERVED' and given(doc.decline) and doc.decline.why == 'defect'
end

-- The tombstone becomes a decision: no later incarnation lifts it.
local function heed_tombstone(attempt)
  local answer = verdict('CANCELLED')
  if not attempt.answer then redis.call('HSET', attempt.key, 'answer', answer) end
  return answer
end

local STANDING = {RESERVED = true, RUNNING = true, REFUSED = true}

-- What became of the request before; joined by hand, because it holds an answer as it was given.
local function duplicate(attempt)
  local state = attempt.state
  local terms = redis.call('HGET', attempt.key, 'terms')
  return '{"v":"DUPLICATE","answer":' .. (STANDING[state] and attempt.answer or 'null')
    .. ',"state":"' .. state .. '","terms":' .. cjson.encode(terms or '') .. '}'
end

-- A job that was listed in an earlier life, and came into the log after its rebuild had read that.
local function list_again(call, attempt)
  if not given(call.doc.job) or attempt.job then return end
  list_job(call, call.prefix .. 'jobs', attempt.key, call.doc.accepted_ms, call.doc.job)
  attempt.job = call.doc.job
end

--[[ tg1_admit: decides all limits of one request at once, all or nothing, and takes its hold.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, deadline_ms, accepted_ms, info,
  rates [{key, id, cost, burst (units), rate_milli_per_s (1/1000 unit per s), limit (as LIMITED tells it;
  null: burst)}],
  leases [{key, id, limit}], asked after the rates,
  balances [{key, id, unit, amount, limit or null (only tracked), start_ms, end_ms or null}], last,
  defer (true: a LIMITED or CONTENDED answer is not kept, the caller asks again),
  waits_for [limit ids] (a LIMITED by one of them is not kept either),
  decline {why, retry_after_ms} or null (ended without asking any limit, because of its caller),
  incarnation_ms (which produce of this id it is), terms (opaque), key {key_hash, fingerprint} or null (it was
  claimed for this request), job (opaque facts of a job) or null.
Returns: NOT_READY also of one with a key while a rebuild looks for keys | ADMITTED(remaining [{id, limit, remaining, reset_ms}]) | LIMITED(id, usage, limit,
  retry_after_ms) | REFUSED(why: spent or too_large, id, usage, limit) | CONTENDED(id, usage, limit,
  retry_after_ms) | DECLINED(why: that of the document, or `taken`: another has its key; retry_after_ms) | ROLLED(id, now_ms) | EXPIRED | CANCELLED
  | SUPERSEDED (a late copy, while a later incarnation is known)
  | DUPLICATE(answer: the first decision, null when it is over; state; terms, while it holds).
State: NONE -> RESERVED, or NONE -> REFUSED: what is answered is kept, so that the first decision
  wins, but for ROLLED and for what is asked again; by a defect RESERVED -> REFUSED. A key that nobody has is held
  again, a job that is not listed is listed. ]]
local function admit(call, attempt)
  local doc = call.doc
  if attempt.state then attempt = whole(attempt) end
  if is_superseded(doc, attempt) then return verdict('SUPERSEDED') end
  if attempt.state == 'CANCELLED' and not is_lifted(doc, attempt) then
    return heed_tombstone(attempt)
  end
  if is_taken_back(doc, attempt) then
    withdraw(call, attempt, 'REFUSED')
    redis.call('ZREM', call.exp, attempt.member)
    return refuse(call, attempt, 'DECLINED', doc.decline)
  end
  if attempt.state and attempt.state ~= 'CANCELLED' then return duplicate(attempt) end
  if given(doc.key) and are_kept_missing(call) then return verdict('NOT_READY') end
  list_again(call, attempt)
  if call.now_ms >= doc.deadline_ms then return refuse(call, attempt, 'EXPIRED', {}) end
  if given(doc.decline) then return refuse(call, attempt, 'DECLINED', doc.decline) end
  if given(doc.key) and is_key_taken(call) then
    return refuse(call, attempt, 'DECLINED', {why = 'taken', retry_after_ms = 0})
  end
  local v, fields, buckets = ask_limits(call)
  if v then return refuse(call, attempt, v, fields) end
  return reserve(call, attempt, buckets)
end
register_on_attempt('tg1_admit', admit)
