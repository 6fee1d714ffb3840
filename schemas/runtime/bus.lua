#!lua name=tallygate_bus_v1

-- tgbus1_send: append a frame to its request's stream and, only if that succeeded, ring the doorbell.
-- KEYS[1]  stream of the request's frames
-- ARGV[1]  entry id, <fence>-<seq>; the server refuses ids that are not above the last one
-- ARGV[2]  the frame, MessagePack
-- ARGV[3]  channel of the ingress that waits for it; empty when none does
-- ARGV[4]  time to live of the stream, ms
-- Returns 1 when it was appended, 0 when the id is stale or repeated.
local function send(keys, args)
  local added = redis.pcall('XADD', keys[1], args[1], 'f', args[2])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'equal or smaller', 1, true) then return 0 end
    return added
  end
  redis.call('PEXPIRE', keys[1], args[4])
  if args[3] ~= '' then redis.call('PUBLISH', args[3], args[2]) end
  return 1
end

redis.register_function('tgbus1_send', send)
