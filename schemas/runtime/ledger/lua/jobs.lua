
local function list_job(call, list, key, created_ms, info)
  local until_ms = dec(call.now_ms + JOB_KEPT_MS)
  redis.call('ZADD', list, dec(created_ms), call.doc.req)
  redis.call('PEXPIREAT', list, until_ms)
  redis.call('HSET', key, 'job', info)
  redis.call('PEXPIREAT', key, until_ms)
end

--[[ tg1_job: remembers that a request is a job.
KEYS: meta, {org}jobs, attempt hash.
ARGV[1]: org, req, created_ms, info (opaque text), limit (of jobs that are remembered).
Returns: OK | LIMITED(id, usage, limit, retry_after_ms: when the oldest is forgotten).
State: the attempt hash carries info and stays for 72 h, as does the job in the list. ]]
local function job(call)
  if are_kept_missing(call) then return verdict('NOT_READY') end
  local doc, list, key = call.doc, call.keys[2], call.keys[3]
  redis.call('ZREMRANGEBYSCORE', list, '-inf', dec(call.now_ms - JOB_KEPT_MS))
  if not redis.call('ZSCORE', list, doc.req) then
    local usage = redis.call('ZCARD', list)
    if usage >= doc.limit then
      local oldest = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
      local left_ms = tonumber(oldest[2] or call.now_ms) + JOB_KEPT_MS - call.now_ms
      return verdict('LIMITED', {id = 'org:jobs', usage = dec(usage), limit = dec(doc.limit),
        retry_after_ms = dec(math.max(1, left_ms))})
    end
  end
  list_job(call, list, key, doc.created_ms, doc.info)
  return verdict('OK')
end
register('tg1_job', job)

--[[ tg1_jobs: one page of an org's jobs, newest first.
KEYS: meta, {org}jobs.
ARGV[1]: org, limit, after (the last request of the page before; left out for the first page).
Returns: JOBS(entries [{req, info, state: of its attempt, empty without one, ends: left out until it is
  known}], more). An `after` that left the list has nothing after it.
State: unchanged. ]]
local function jobs(call)
  if are_kept_missing(call) then return verdict('NOT_READY') end
  local doc, first, entries = call.doc, 0, {}
  if given(doc.after) then
    local rank = redis.call('ZREVRANK', call.keys[2], doc.after)
    if not rank then return verdict('JOBS', {more = false}) end
    first = rank + 1
  end
  local listed = redis.call('ZREVRANGE', call.keys[2], dec(first), dec(first + doc.limit))
  for i = 1, math.min(#listed, doc.limit) do
    local key = call.prefix .. 'a:' .. listed[i]
    local info, state, ends = unpack(redis.call('HMGET', key, 'job', 'state', 'ends'))
    entries[#entries + 1] = info
      and {req = listed[i], info = info, state = state or '', ends = ends or nil} or nil
  end
  return verdict('JOBS', {entries = unless_empty(entries), more = #listed > doc.limit})
end
register('tg1_jobs', jobs, {'no-writes'})

--[[ tg1_look: what is known of one request.
KEYS: meta, attempt hash.
ARGV[1]: org, req.
Returns: {LOOK(state, empty without an attempt; info of its job, left out when it is none; booked:
  partition:offset of its outcome, left out until it stands there; kept_missing: it may be a job all the
  same, because a rebuild has not brought them back yet), outcome bytes, empty unless finished and not booked}.
State: unchanged. ]]
local function look(call)
  local stored = redis.call('HMGET', call.keys[2], 'state', 'job', 'booked', 'outcome')
  local state, info, booked, outcome = unpack(stored)
  return {verdict('LOOK', {state = state or '', job = info or nil, booked = booked or nil,
    kept_missing = not info and are_kept_missing(call) or nil}), outcome or ''}
end
register('tg1_look', look, {'no-writes'})
