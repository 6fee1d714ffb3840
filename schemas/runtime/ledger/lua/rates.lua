--[[ Token buckets (GCRA). A bucket is stored as its theoretical arrival time, `<µs>:<part>`, the
part in units of 1/rate µs, so that no rounding adds up. Inside the library a bucket is how far
that time lies ahead of now: (us, part); (0, 0) is a full bucket. A rate is in thousandths of a
unit per second. Exact for units and rates below 9e10. A changed rate misreads the part, by less
than 1 µs and once. ]]

-- How long `units` take to flow in: units * 1e9 / rate µs, in two steps to stay below 2^53.
local function inflow(units, rate)
  local coarse = units * 100000
  local rest = (coarse % rate) * 10000
  return math.floor(coarse / rate) * 10000 + math.floor(rest / rate), rest % rate
end

-- The units that a bucket lacks, rounded up: (us * rate + part) / 1e9.
local function lacking_units(us, part, rate)
  local fine = (us % 100000) * rate + part
  local coarse = math.floor(us / 100000) * rate + math.floor(fine / 100000)
  local rest = coarse % 10000 + fine % 100000
  return math.floor(coarse / 10000) + (rest > 0 and 1 or 0)
end

local function read_bucket(key, now_us, rate)
  local stored = redis.call('GET', key)
  if not stored then return 0, 0 end
  local us, part = string.match(stored, '^(%d+):(%d+)$')
  if tonumber(us) < now_us then return 0, 0 end
  return tonumber(us) - now_us, tonumber(part) % rate
end

local function write_bucket(key, now_us, us, part)
  local until_ms = math.floor((now_us + us) / 1000) + 1000
  redis.call('SET', key, dec(now_us + us) .. ':' .. dec(part), 'PXAT', dec(until_ms))
end

local function advance(us, part, units, rate)
  local more_us, more_part = inflow(units, rate)
  us, part = us + more_us, part + more_part
  if part >= rate then return us + 1, part - rate end
  return us, part
end

local function retreat(us, part, units, rate)
  local less_us, less_part = inflow(units, rate)
  us, part = us - less_us, part - less_part
  if part < 0 then us, part = us - 1, part + rate end
  if us < 0 then return 0, 0 end
  return us, part
end

local function up_to_ms(us, part)
  return math.ceil((us + (part > 0 and 1 or 0)) / 1000)
end

local function is_beyond(us, part, most_us, most_part)
  return us > most_us or (us == most_us and part > most_part)
end

-- The bucket as it is. Emptier than empty is one that was charged before the clock was set back, or
-- under a larger burst: it is made empty, or it would refuse for as long as the clock went back.
local function read_charged(call, rate, burst_us, burst_part)
  local key, flow = call.prefix .. rate.key, rate.rate_milli_per_s
  local us, part = read_bucket(key, call.now_us, flow)
  if not is_beyond(us, part, burst_us, burst_part) then return us, part end
  write_bucket(key, call.now_us, burst_us, burst_part)
  return burst_us, burst_part
end

-- Asks one rate: {us, part, remaining} once taken, or nil, verdict, fields.
local function ask_rate(call, rate)
  local flow = rate.rate_milli_per_s
  if rate.cost > rate.burst then
    local fields = {why = 'too_large', id = rate.id, usage = dec(rate.cost), limit = dec(rate.burst)}
    return nil, 'REFUSED', fields
  end
  local burst_us, burst_part = inflow(rate.burst, flow)
  local ahead_us, ahead_part = read_charged(call, rate, burst_us, burst_part)
  local us, part = advance(ahead_us, ahead_part, rate.cost, flow)
  if is_beyond(us, part, burst_us, burst_part) then
    return nil, 'LIMITED', {
      id = rate.id,
      retry_after_ms = up_to_ms(us - burst_us, part - burst_part),
      usage = dec(lacking_units(ahead_us, ahead_part, flow)),
      limit = dec(given(rate.limit) and rate.limit or rate.burst),
    }
  end
  return {us = us, part = part}
end

-- Charges what ask_rate() allowed, and says what is left of it.
local function take_rate(call, rate, bucket)
  write_bucket(call.prefix .. rate.key, call.now_us, bucket.us, bucket.part)
  local used = lacking_units(bucket.us, bucket.part, rate.rate_milli_per_s)
  return {
    id = rate.id,
    limit = dec(rate.burst),
    remaining = dec(math.max(0, rate.burst - used)),
    reset_ms = up_to_ms(bucket.us, bucket.part),
  }
end

-- Gives back what was charged above `units`; the bucket never becomes fuller than full.
local function refund_rate(prefix, now_us, held, units)
  if units >= held.cost then return end
  local key, flow = prefix .. held.key, held.rate_milli_per_s
  local us, part = read_bucket(key, now_us, flow)
  us, part = retreat(us, part, held.cost - units, flow)
  write_bucket(key, now_us, us, part)
end
