local JOB_KEPT_MS = 24 * 3600 * 1000
local JOBS_LISTED_MAX = 10000

local function job_key(call, req)
  return call.prefix .. 'jobs:' .. req
end

--[[ tg1_job: remembers that a request is a job.
KEYS: meta, {org}:jobs.
ARGV[1]: org, req, created_ms, info (opaque text).
Returns: OK.
State: {org}:jobs:<req> holds info for 24 h; the list keeps 24 h and 10 000 jobs at most. ]]
local function job(call)
  local doc, list = call.doc, call.keys[2]
  local until_ms = dec(call.now_ms + JOB_KEPT_MS)
  redis.call('SET', job_key(call, doc.req), doc.info, 'PXAT', until_ms)
  redis.call('ZADD', list, dec(doc.created_ms), doc.req)
  redis.call('ZREMRANGEBYSCORE', list, '-inf', dec(call.now_ms - JOB_KEPT_MS))
  redis.call('ZREMRANGEBYRANK', list, 0, -JOBS_LISTED_MAX - 1)
  redis.call('PEXPIREAT', list, until_ms)
  return verdict('OK')
end
register('tg1_job', job)

--[[ tg1_jobs: one page of an org's jobs, newest first.
KEYS: meta, {org}:jobs.
ARGV[1]: org, limit, after (the last request of the page before; left out for the first page).
Returns: JOBS(entries [{req, info}], more). An `after` that left the list has nothing after it.
State: unchanged. ]]
local function jobs(call)
  local doc, first, entries = call.doc, 0, {}
  if given(doc.after) then
    local rank = redis.call('ZREVRANK', call.keys[2], doc.after)
    if not rank then return verdict('JOBS', {more = false}) end
    first = rank + 1
  end
  local listed = redis.call('ZREVRANGE', call.keys[2], dec(first), dec(first + doc.limit))
  for i = 1, math.min(#listed, doc.limit) do
    local info = redis.call('GET', job_key(call, listed[i]))
    entries[#entries + 1] = info and {req = listed[i], info = info} or nil
  end
  return verdict('JOBS', {entries = unless_empty(entries), more = #listed > doc.limit})
end
register('tg1_jobs', jobs, {'no-writes'})

--[[ tg1_look: what is known of one request.
KEYS: meta, attempt hash.
ARGV[1]: org, req.
Returns: {LOOK(state, empty without an attempt; info of its job, left out when it is none), outcome
  bytes, empty unless finished}.
State: unchanged. ]]
local function look(call)
  local stored = redis.call('HMGET', call.keys[2], 'state', 'outcome')
  local info = redis.call('GET', job_key(call, call.doc.req))
  return {verdict('LOOK', {state = stored[1] or '', job = info or nil}), stored[2] or ''}
end
register('tg1_look', look, {'no-writes'})
