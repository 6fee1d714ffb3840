--[[ A restored request was admitted in an earlier life of the ledger, and the log has no outcome of it. Its
owner may be calling a backend for the first time or the second, may be gone, or nobody may have begun. So its
hold is taken twice: once as of any attempt, and once more as its spare (holds.spare: [{key, amount}], false
once it returned; field `spare` of its balances), so that whatever is spent already fits.

    RESTORED ──attach──► RUNNING under the fence it had
       │ start, fresh ──► RUNNING, attempt 1
       │ start, two leases after the rebuild, log asked ──► RUNNING, attempt 2; attempt 1 was spent whole
       │ reap ──► UNKNOWN, spent whole
       ▼ book
     BOOKED: its outcome settles what was used ]]

local function hold_spare(prefix, holds)
  local spare = {}
  for _, held in ipairs(holds or {}) do
    -- However often it runs, a request counts once.
    if held.unit ~= 'requests' then
      add(prefix .. held.key, 'spare', tonumber(held.amount))
      spare[#spare + 1] = {key = held.key, amount = held.amount}
    end
  end
  return unless_empty(spare) or false
end

-- Takes the hold and the leases of `entry`, without asking: they stood before.
local function hold_again(call, attempt, entry)
  attempt.holds = {
    balances = hold(attempt.prefix, entry.balances or {}),
    leases = take_leases(attempt.prefix, attempt.req, entry.leases or {}, entry.deadline_ms),
    rates = unless_empty(entry.rates or {}),
  }
  attempt.attempt, attempt.deadline_ms = '1', entry.deadline_ms
  redis.call('HSET', attempt.key, 'attempt', '1', 'deadline_ms', dec(entry.deadline_ms),
    'accepted_ms', dec(entry.accepted_ms), 'info', entry.info or '')
  redis.call('PEXPIREAT', attempt.key, dec(call.now_ms + ATTEMPT_KEPT_MS))
end

-- One request that a rebuild found open; nothing when it is known already.
local function restore_attempt(call, entry)
  local prefix = prefix_of(call.tag, entry.org)
  local attempt = read_attempt(prefix .. 'a:' .. entry.req, prefix, entry.org, entry.req)
  if attempt.state then return end
  hold_again(call, attempt, entry)
  attempt.holds.spare = hold_spare(prefix, attempt.holds.balances)
  redis.call('HSET', attempt.key, 'state', 'RESTORED', 'terms', entry.terms or '',
    'holds', cjson.encode(attempt.holds), 'inc', dec(math.max(entry.incarnation_ms or 0, attempt.inc)))
  redis.call('ZADD', call.exp, dec(entry.deadline_ms), attempt.member)
end

--[[ tg1_restore: what was admitted and has not ended, of a shard that is being rebuilt.
KEYS: meta, exp.
ARGV[1]: building (as in meta), attempts [{org, req, deadline_ms, accepted_ms, info, terms, incarnation_ms,
  balances [as in admit], leases [{key}], rates [{key, cost, rate_milli_per_s}]}].
Returns: OK | STALE (another rebuild is under way, or none).
State: NONE -> RESTORED, its hold taken twice; whatever is known stays as it is. ]]
local function restore(keys, args)
  local doc = cjson.decode(args[1])
  local meta = redis.call('HMGET', keys[1], 'building', 'test_clock')
  if meta[1] ~= doc.building then return verdict('STALE') end
  local call = {tag = tag_of(keys[1]), exp = keys[2],
    now_ms = math.floor(time_us(meta[2], doc) / 1000)}
  for _, entry in ipairs(doc.attempts or {}) do restore_attempt(call, entry) end
  return verdict('OK')
end
redis.register_function('tg1_restore', restore)

-- Whether nobody has the request, or the caller has it, or one whose fence was older in an earlier life.
local function is_attachable(call, attempt)
  if attempt.state ~= 'RUNNING' then return attempt.state == 'RESTORED' end
  if attempt.fence == dec(call.doc.fence) then return true end
  return is_of_earlier_life(call, attempt.fence) and tonumber(attempt.fence) < call.doc.fence
end

-- What attempt 1 cost is settled; the hold of attempt 2 takes the place of the spare.
local function follow_first(call, attempt)
  local doc = call.doc
  local first = given(doc.first) and doc.first or {verdict = 'UNKNOWN', fence = doc.fence}
  local booked = bookings_of(attempt.holds.balances, first.actual)
  settle(attempt.prefix, attempt.holds.balances, first.actual)
  local second = doc.readmit.balances or {}
  if first.verdict == 'UNKNOWN' then second = uncounted(second) end
  attempt.fence, attempt.owner = dec(first.fence), doc.owner
  open_second(attempt, second, first.verdict, booked)
  drop_spare(attempt)
end

--[[ tg1_attach: the owner of a request that the ledger does not know to be his, after a rebuild.
KEYS: meta, attempt hash, exp, inf.
ARGV[1]: org, req, owner, lease_ms, fence (he runs under), attempt, streamed, first {verdict: UNKNOWN or
  FAILED, fence, actual {unit: amount; left out or null: whole}} of attempt 2, readmit (as of readmit).
Returns: OK | CANCELLED (attached, too) | STALE(written_off: as of finish; another runs it, or it is over) |
  GONE (never known, and past its deadline).
State: RESTORED -> RUNNING under the fence given; NONE -> RUNNING, its hold taken without asking, because what
  is spent is spent; of two owners of an earlier life the one with the higher fence stays. With attempt 2 the
  first one is settled, and the second hold takes the place of the spare. ]]
local function attach(call, attempt)
  local doc = call.doc
  if not attempt.state then
    if call.now_ms >= doc.readmit.deadline_ms then return verdict('GONE') end
    hold_again(call, attempt, doc.readmit)
    redis.call('HSET', attempt.key, 'holds', cjson.encode(attempt.holds))
  elseif not is_attachable(call, attempt) then
    return stale(attempt)
  end
  local is_streamed = doc.streamed == true
    or (attempt.fence == dec(doc.fence) and attempt.streamed == '1')
  if doc.attempt > tonumber(attempt.attempt) then follow_first(call, attempt) end
  local lease_until_ms = dec(call.now_ms + doc.lease_ms)
  redis.call('HSET', attempt.key, 'state', 'RUNNING', 'fence', dec(doc.fence), 'owner', doc.owner,
    'lease_until_ms', lease_until_ms, 'streamed', is_streamed and '1' or '0')
  redis.call('ZREM', call.exp, attempt.member)
  redis.call('ZADD', call.inf, lease_until_ms, attempt.member)
  return verdict(attempt.cancel and 'CANCELLED' or 'OK')
end
register_on_attempt('tg1_attach', attach, EMPTIES)
