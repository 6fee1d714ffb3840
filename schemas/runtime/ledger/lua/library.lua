--[[ The ledger: holds, fences, rates and usage tables, changed atomically on one primary.

Every function: ARGV[1] is one JSON document, every integer in it below 2^53. KEYS[1] is `{7}|meta` of
the shard 7; unless ready is 1 the answer is {"v":"NOT_READY"} and nothing changes. The last argument is the
epoch that the caller knows to be announced: above that of meta another store has the shard by now, and this
one answers NOT_READY(behind).
The answer is one JSON string; functions that give bytes back return {JSON, bytes}.

A shard is the fold of one partition of outcomes, and all its keys begin with its tag, `{7}|`, so every
function stays in one slot of a cluster. Those of an organization go on with its name, `{7}|acme|`, written
`{org}` below. Keys of balances, buckets and leases are suffixes in the document, put behind that here;
the headers name the shard's own keys without their tag.

`meta`, a hash: epoch, ready, layout (of the keys; `2`), run_id (of the server that holds
the shard: init.lua), marks (0 while a rebuild that opened the shard still brings them), claims (0 while it brings keys and jobs),
complete (1 once nothing of it is left to do), building (the rebuild under way), why (it was closed), folded (the last outcome that the rebuild before read), ready_ms (when
that opened the shard, and then when its marks were back), booked (the last outcome), cluster_id and birth_id (of the log that it is the fold of), seen_ms, grace_until (attempts.lua),
test_clock.

Numbers: integers only. cjson writes 14 digits, so money, offsets and fences leave as decimal
strings made by dec(), as everything does that a command takes. Money is nano-USD (1e-9 USD). An empty list is left out of an answer,
because cjson would write it as an object. A JSON null arrives as cjson.null: ask given().

Time: the server's TIME. Only where `meta` has test_clock=1, which a test sets, a document may
bring its own `now_us`. Expiries are absolute for the same reason. The constants in ..._MS that are not
made here are those of schemas/times.py; script.py writes them in front. ]]

local EPOCH_FENCES = 4294967296

-- '%d' is half the work of '%.0f', and as exact where a C long has 64 bits: the first call tells, as nothing
-- formats while a library is loaded.
local whole_number

local function dec(n)
  whole_number = whole_number
    or (string.format('%d', 9007199254740991) == '9007199254740991' and '%d' or '%.0f')
  return string.format(whole_number, n)
end

local function given(value)
  return value ~= nil and value ~= cjson.null
end

local function unless_empty(list)
  if #list > 0 then return list end
  return nil
end

local function verdict(v, fields)
  if not fields then return '{"v":"' .. v .. '"}' end
  fields.v = v
  return cjson.encode(fields)
end

local LAYOUT = '2'

-- The tag of a shard, from the key of its meta.
local function tag_of(meta)
  return string.sub(meta, 1, -5)
end

local function prefix_of(tag, org)
  return tag .. org .. '|'
end

local function time_us(test_clock, doc)
  if test_clock == '1' and given(doc.now_us) then return doc.now_us end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Whether a rebuild has not brought keys and jobs back yet: then nobody is told that there are none.
local function are_kept_missing(call)
  return redis.call('HGET', call.keys[1], 'claims') == '0'
end

-- Flags of functions that close, return or book: they run also in a store that is full, so that a
-- full ledger empties itself. What takes something new carries none, and is refused with OOM.
local EMPTIES = {'allow-oom'}

-- Registers `body(call)`, which runs only while the ledger is ready. A call is one invocation:
-- keys, bytes (ARGV[2]), doc, tag (`{7}|`), prefix (`{7}|acme|`), now_us, now_ms, epoch,
-- are_marks_missing (a rebuild still brings them: an outcome may be a copy of one that it read).
local function register(name, body, flags)
  local function guarded(keys, args)
    local meta = redis.call('HMGET', keys[1], 'epoch', 'ready', 'test_clock', 'marks')
    if meta[2] ~= '1' then return verdict('NOT_READY') end
    local epoch = tonumber(meta[1])
    if (tonumber(args[#args]) or 0) > epoch then return verdict('NOT_READY', {behind = true}) end
    local doc = cjson.decode(args[1])
    local now_us, tag = time_us(meta[3], doc), tag_of(keys[1])
    return body({
      keys = keys,
      bytes = args[2],
      doc = doc,
      tag = tag,
      prefix = doc.org and prefix_of(tag, doc.org),
      now_us = now_us,
      now_ms = math.floor(now_us / 1000),
      epoch = epoch,
      are_marks_missing = meta[4] == '0',
    })
  end
  redis.register_function({function_name = name, callback = guarded, flags = flags or {}})
end
