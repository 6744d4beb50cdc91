-- declare_dead: from here on this worker's claims and beats are refused. Compares the beat counter that the caller saw.
-- KEYS  index, workers, the worker's hash
-- ARGV  worker, beat counter or '' (its own supervisor knows), locations it was running or '-' (those of its last beat)
-- Returns 1 dead, 0 it has beaten since or is unknown.
redis.call('PERSIST', KEYS[1])
local beats = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not beats then return 0 end
if tonumber(beats) < 0 then return 1 end
if ARGV[2] ~= '' and tonumber(beats) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[2], -1, ARGV[1])
if ARGV[3] ~= '-' then redis.call('HSET', KEYS[3], 'running', ARGV[3]) end
return 1
