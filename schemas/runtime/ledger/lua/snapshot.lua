--[[ tg1_snapshot: one consistent reading of an org's tables.
KEYS: meta, {org}m.
ARGV[1]: org, hours [hour], balances [suffix].
Returns: SNAPSHOT(offsets {partition: offset}, usage {hour: {field: amount}},
  balances {suffix: {field: amount}}, totals {suffix of the balance: {field: amount}}, epoch of the shard,
  folded: up to which outcome a rebuild made it; -1 where none did).
State: unchanged. ]]
local function snapshot(call)
  local usage, balances, totals = {}, {}, {}
  for _, hour in ipairs(call.doc.hours or {}) do
    usage[hour] = read_hash(call.prefix .. 'u:' .. hour)
  end
  for _, key in ipairs(call.doc.balances or {}) do
    balances[key] = read_hash(call.prefix .. key)
    totals[key] = read_hash(total_of(call.prefix, key))
  end
  return verdict('SNAPSHOT', {offsets = read_hash(call.keys[2]), usage = usage,
    balances = balances, totals = totals, epoch = dec(call.epoch),
    folded = redis.call('HGET', call.keys[1], 'folded') or '-1'})
end
register('tg1_snapshot', snapshot, {'no-writes'})
