local HOUR_MS = 3600 * 1000
local NEVER_RAN = {REFUSED = true, CANCELLED = true, VOIDED = true, BOOKED = true}
local UNDER_WAY = {RESERVED = true, RESTORED = true, RUNNING = true}

-- Whether the holder may have run and been forgotten since, so that its absence, or what became of a late
-- copy of it, proves nothing. Marks leave by the log's clock (book.lua), so no clock of the store tells.
local function may_be_forgotten(call, held)
  local forgot_ms = tonumber(redis.call('GET', call.keys[3]) or 0)
  return tonumber(held.deadline_ms) + TERMINAL_KEPT_MS <= forgot_ms
end

-- True when the holder did not run and never will: none begins after its deadline; one that is only
-- BOOKED ended without admission, unless its outcome says that it ran.
local function is_free(call, held, state, ran)
  if not held.req then return true end
  if state and (not NEVER_RAN[state] or ran == '1') then return false end
  if not state and call.now_ms < tonumber(held.deadline_ms) then return false end
  return not may_be_forgotten(call, held)
end

-- True when the holder should have been produced by now and can still run, but was not admitted.
local function is_lost(call, held, state)
  return not state and call.now_ms >= tonumber(held.produce_by_ms)
    and call.now_ms < tonumber(held.deadline_ms) and not may_be_forgotten(call, held)
end

-- How many keys an organization claimed in each hour; one that is given back leaves its hour.
local function counter_of(call)
  return call.prefix .. 'kn'
end

local function hour_of(at_ms)
  return math.floor(at_ms / HOUR_MS)
end

-- The keys of the last day, and the oldest hour that has any. Hours before it are dropped.
local function count_keys(call)
  local counted, sum, oldest = redis.call('HGETALL', counter_of(call)), 0, nil
  for i = 1, #counted, 2 do
    local hour = tonumber(counted[i])
    if hour < hour_of(call.now_ms - CLAIM_KEPT_MS) then
      redis.call('HDEL', counter_of(call), counted[i])
    else
      sum, oldest = sum + tonumber(counted[i + 1]), math.min(oldest or hour, hour)
    end
  end
  return sum, oldest or hour_of(call.now_ms)
end

local function count_in(call)
  redis.call('HINCRBY', counter_of(call), dec(hour_of(call.now_ms)), 1)
  redis.call('PEXPIREAT', counter_of(call), dec(call.now_ms + CLAIM_KEPT_MS + HOUR_MS))
end

-- Takes a key that is claimed out of the hour in which it was.
local function count_out(call, key)
  local hour = dec(hour_of(redis.call('PEXPIRETIME', key) - CLAIM_KEPT_MS))
  if redis.call('HEXISTS', counter_of(call), hour) == 1 then
    redis.call('HINCRBY', counter_of(call), hour, -1)
  end
end

-- From now on a cancel by whoever produced the holder before is stale: somebody else waits for it.
local function raise_incarnation(call, held, state)
  local key, incarnation_ms = call.prefix .. 'a:' .. held.req, call.doc.produce_by_ms
  if tonumber(redis.call('HGET', key, 'inc') or 0) >= incarnation_ms then return end
  redis.call('HSET', key, 'inc', dec(incarnation_ms))
  if not state then
    redis.call('PEXPIREAT', key, dec(call.now_ms + ATTEMPT_KEPT_MS))
  end
end

local function hold_key(call, key, fingerprint, produce_by_ms)
  count_in(call)
  redis.call('HSET', key, 'request_id', call.doc.req, 'fingerprint', fingerprint,
    'produce_by_ms', dec(produce_by_ms), 'deadline_ms', dec(call.doc.deadline_ms))
  redis.call('PEXPIREAT', key, dec(call.now_ms + CLAIM_KEPT_MS))
end

--[[ Whether the key of a request that is to be admitted is another one's. It was claimed in an earlier life of the
ledger then, and was not in the log when keys came back: whoever claims it since is the first. Where nobody has,
it is held again. A key that was forgotten in the meantime, because a day passed, takes nothing from its request. ]]
local function is_key_taken(call)
  local doc, key = call.doc, call.prefix .. 'k:' .. call.doc.key.key_hash
  local holder, lapses_ms = redis.call('HGET', key, 'request_id'), call.doc.accepted_ms + CLAIM_KEPT_MS
  if holder == doc.req then return false end
  if holder then return redis.call('PEXPIRETIME', key) - CLAIM_KEPT_MS < lapses_ms end
  if call.now_ms < lapses_ms then
    hold_key(call, key, doc.key.fingerprint, doc.incarnation_ms or 0)
  end
  return false
end

local function read_claim(key)
  local stored = redis.call('HMGET', key, 'request_id', 'fingerprint', 'produce_by_ms',
    'deadline_ms')
  return {req = stored[1], fingerprint = stored[2], produce_by_ms = stored[3],
    deadline_ms = stored[4]}
end

--[[ tg1_claim: an idempotency key belongs to the first request that brings it.
KEYS: meta, {org}k:<key hash>, forgot.
ARGV[1]: org, key_hash, fingerprint (of the body), req, produce_by_ms, deadline_ms, limit (of keys that
  the organization has; by the hour, so up to one hour more than a day counts), joins (true: the holder's
  record was seen in the log, and the caller waits for it).
Returns: NOT_READY also while a rebuild looks for keys | CLAIMED(req, deadline_ms: the caller's, or those of a holder that did not reach the log and
  is to be produced again) | HELD(req, state of its attempt, empty without one, deadline_ms) |
  MISMATCH | LIMITED(id, usage, limit, retry_after_ms: when the oldest keys are forgotten).
State: the attempt of a holder that is under way, is joined, or is produced again, learns the incarnation of the
  caller; {org}kn counts keys by hour; the key is claimed for 24 h; one whose holder never ran counts as free. ]]
local function claim(call)
  if are_kept_missing(call) then return verdict('NOT_READY') end
  local doc, key = call.doc, call.keys[2]
  local held = read_claim(key)
  local state, ran = nil, nil
  if held.req then
    state, ran = unpack(redis.call('HMGET', call.prefix .. 'a:' .. held.req, 'state', 'ran'))
  end
  if is_free(call, held, state, ran) then
    if held.req then
      count_out(call, key)
    else
      local usage, oldest = count_keys(call)
      if usage >= doc.limit then
        local left_ms = (oldest + 1) * HOUR_MS + CLAIM_KEPT_MS - call.now_ms
        return verdict('LIMITED', {id = 'org:idempotency_keys', usage = dec(usage),
          limit = dec(doc.limit), retry_after_ms = dec(left_ms)})
      end
    end
    hold_key(call, key, doc.fingerprint, doc.produce_by_ms)
    return verdict('CLAIMED', {req = doc.req, deadline_ms = dec(doc.deadline_ms)})
  end
  if held.fingerprint ~= doc.fingerprint then return verdict('MISMATCH') end
  if doc.joins ~= true and is_lost(call, held, state) then
    -- Its deadline stays, so of the two copies the log may hold, none ends while the other runs.
    redis.call('HSET', key, 'produce_by_ms', dec(doc.produce_by_ms))
    raise_incarnation(call, held, state)
    return verdict('CLAIMED', {req = held.req, deadline_ms = held.deadline_ms})
  end
  if UNDER_WAY[state] or (doc.joins == true and not state) then raise_incarnation(call, held, state) end
  return verdict('HELD', {req = held.req, state = state or '', deadline_ms = held.deadline_ms})
end
register('tg1_claim', claim)

--[[ tg1_release: frees an idempotency key whose request was refused.
KEYS: meta, {org}k:<key hash>.
ARGV[1]: org, key_hash, req.
Returns: OK | STALE (another request holds the key, or none).
State: the claim is deleted, and counts no more, if `req` holds it. ]]
local function release(call)
  if redis.call('HGET', call.keys[2], 'request_id') ~= call.doc.req then
    return verdict('STALE')
  end
  count_out(call, call.keys[2])
  redis.call('DEL', call.keys[2])
  return verdict('OK')
end
register('tg1_release', release, EMPTIES)
