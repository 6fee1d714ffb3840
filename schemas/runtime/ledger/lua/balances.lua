--[[ Balances: hash settled, reserved, spare, over, late. reserved is the sum of open holds; spare what
restored requests hold once more; settled is what was spent; over counts spending above a hold, late counts
spending without one. So settled + reserved + spare <= limit + over + late at every instant while limits do
not fall, but for what a rebuild found open and reserved twice without asking. ]]

local NOTHING_SPENT = {nano_usd = 0, tokens = 0, requests = 0}

local function add(key, field, amount)
  if amount ~= 0 then redis.call('HINCRBY', key, field, dec(amount)) end
end

-- What the log booked for the balance whose suffix is given.
local function total_of(prefix, key)
  return prefix .. 't:' .. string.sub(key, 3)
end

-- A balance leaves the store 40 days after its period; one without an end never does.
local function expire_with_period(key, end_ms)
  if given(end_ms) then redis.call('PEXPIREAT', key, dec(end_ms + TABLE_KEPT_MS)) end
end

local function is_rolled(call, balance)
  return call.now_ms < balance.start_ms
    or (given(balance.end_ms) and call.now_ms >= balance.end_ms)
end

-- What one balance answers to a hold: nil when it fits, else verdict, fields. `moved` is what
-- the same call is about to settle and to return there.
local function ask_balance(prefix, balance, moved)
  if not given(balance.limit) then return nil end
  local stored = redis.call('HMGET', prefix .. balance.key, 'settled', 'reserved', 'spare')
  local settled = tonumber(stored[1] or 0) + (moved and moved.spent or 0)
  local reserved = tonumber(stored[2] or 0) + tonumber(stored[3] or 0) - (moved and moved.held or 0)
  local fields = {id = balance.id or '', limit = dec(balance.limit)}
  if settled + balance.amount > balance.limit then
    fields.why, fields.usage = 'spent', dec(settled)
    return 'REFUSED', fields
  end
  if settled + reserved + balance.amount > balance.limit then
    fields.usage, fields.retry_after_ms = dec(settled + reserved), RETRY_GUESS_MS
    return 'CONTENDED', fields
  end
  return nil
end

-- The first of `balances` that has no room, or nil.
local function ask_balances(prefix, balances, moved)
  for _, balance in ipairs(balances) do
    local v, fields = ask_balance(prefix, balance, moved and moved[balance.key])
    if v then return v, fields end
  end
  return nil
end

-- Reserves; returns the holds as the attempt keeps them. While something is held, the first who held has said when
-- the balance leaves.
local function hold(prefix, balances)
  local holds = {}
  for i, balance in ipairs(balances) do
    local key, amount = prefix .. balance.key, balance.amount
    if amount == 0 or redis.call('HINCRBY', key, 'reserved', dec(amount)) == amount then
      expire_with_period(key, balance.end_ms)
    end
    holds[i] = {key = balance.key, unit = balance.unit, amount = dec(amount)}
  end
  return unless_empty(holds)
end

-- What a hold reserved, and what is spent of it under `actual` ({unit = amount}). A unit that is missing or null
-- there counts as spent whole, since the hold is the proved upper bound.
local function outcome_of_hold(held, actual)
  local amount, spent = tonumber(held.amount), actual and actual[held.unit]
  return amount, given(spent) and spent or amount
end

-- {key = {held, spent}} of holds.
local function spending(holds, actual)
  local moved = {}
  for _, hold in ipairs(holds or {}) do
    local held, spent = outcome_of_hold(hold, actual)
    moved[hold.key] = {held = held, spent = spent}
  end
  return moved
end

-- What settle() books for holds.
local function bookings_of(holds, actual)
  local booked = {}
  for i, held in ipairs(holds or {}) do
    local _, spent = outcome_of_hold(held, actual)
    booked[i] = {key = held.key, unit = held.unit, amount = dec(spent)}
  end
  return unless_empty(booked)
end

-- Ends holds: reserved amounts return, `actual` is settled. What was spent above them is counted beside the
-- total as well, where nobody who changes the balance changes it.
local function settle(prefix, holds, actual)
  for _, hold in ipairs(holds or {}) do
    local key = prefix .. hold.key
    local held, spent = outcome_of_hold(hold, actual)
    add(key, 'reserved', -held)
    add(key, 'settled', spent)
    if spent > held then
      add(key, 'over', spent - held)
      add(total_of(prefix, hold.key), 'over', spent - held)
    end
  end
end

local function void(prefix, holds)
  settle(prefix, holds, NOTHING_SPENT)
end
