-- One exchange of a kernel with the table of leases; see slots.py for the rules and local_slots.py for the
-- same in Python. KEYS: meta, kernels, numbers, awaited, then for each core its leases and its needs.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ask = cjson.decode(ARGV[1])
local me, lease_ms = ask.kernel, ask.lease_ms
local META, KERNELS, NUMBERS, AWAITED = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

if ask.number <= tonumber(redis.call('HGET', NUMBERS, me) or '0') then
  return cjson.encode({late = true})
end
redis.call('HSET', NUMBERS, me, ask.number)

-- Restarts
local meta = redis.call('HMGET', META, 'server', 'epoch', 'last', 'token', 'grants')
local epoch, last, token = tonumber(meta[2] or '0'), tonumber(meta[3] or '0'), tonumber(meta[4] or '0')
local grants_made = tonumber(meta[5] or '0')
if meta[1] ~= ask.server or now - last > ask.gap_ms then
  epoch = now
  redis.call('DEL', KERNELS, AWAITED)
end
local first = not redis.call('ZSCORE', KERNELS, me)
redis.call('ZADD', KERNELS, now + lease_ms, me)
redis.call('SREM', AWAITED, me)
if first then
  for _, other in ipairs(ask.known) do
    if other ~= me and not redis.call('ZSCORE', KERNELS, other) then redis.call('SADD', AWAITED, other) end
  end
end
local reclaiming = now < epoch + math.min(ask.reclaim_ms, lease_ms)
  or (now < epoch + lease_ms and redis.call('SCARD', AWAITED) > 0)
if not reclaiming then
  redis.call('DEL', AWAITED)
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KERNELS, '-inf', now)) do
    redis.call('ZREM', KERNELS, dead)
    redis.call('HDEL', NUMBERS, dead)
  end
end
if ask.leaves then
  redis.call('ZREM', KERNELS, me)
  redis.call('HDEL', NUMBERS, me)
end
local names = redis.call('ZRANGE', KERNELS, 0, -1)
local live = {}
for _, name in ipairs(names) do live[name] = true end

local function shares_of(quota, kernels)
  local left, active = quota, {}
  for _, k in ipairs(kernels) do
    k.share = 0
    if k.want > 0 then active[#active + 1] = k end
  end
  while left > 0 and #active > 0 do
    local level = math.floor(left / #active)
    if level == 0 then
      for place = 1, left do active[place].share = active[place].share + 1 end
      return
    end
    local short = {}
    for _, k in ipairs(active) do
      local given = math.min(level, k.want - k.share)
      k.share, left = k.share + given, left - given
      if k.share < k.want then short[#short + 1] = k end
    end
    active = short
  end
  for place, k in ipairs(kernels) do
    k.share = k.share + math.floor(left / #kernels) + ((place - 1 < left % #kernels) and 1 or 0)
  end
end

local poked = {[me] = ask.leaves or nil}  -- a kernel that ends wakes its own waiting thread

local NOTHING = {granted = {}, lost = {}, share = 0, recalled = 0, waiting = 0, quota = 0, most_quota = 0}

local function settle(core, LEASES, NEEDS)
  local claim = ask.claims[core]
  if not reclaiming then redis.call('ZREMRANGEBYSCORE', LEASES, '-inf', now) end

  -- Renew this kernel's leases and end those that it does not declare.
  local held, mine, total = {}, {}, 0
  for _, member in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
    local owner, lease = string.match(member, '^(.-):(.*)$')
    if owner == me then
      mine[lease] = true
    else
      held[owner], total = (held[owner] or 0) + 1, total + 1
    end
  end
  local lost, holding = {}, 0
  local function renew(lease)
    redis.call('ZADD', LEASES, now + lease_ms, me .. ':' .. lease)
    mine[lease], holding = nil, holding + 1
    token = math.max(token, tonumber(lease))  -- of a server that was lost, whose clock was ahead
  end
  if not ask.leaves then
    for _, lease in ipairs(claim.used) do renew(lease) end
    for _, lease in ipairs(claim.idle) do
      if mine[lease] or reclaiming then renew(lease) else lost[#lost + 1] = lease end
    end
  end
  for lease in pairs(mine) do redis.call('ZREM', LEASES, me .. ':' .. lease) end
  held[me], total = holding, total + holding

  -- What every kernel needs. `granted_at` counts grants. `told` is the share that it was asked to shrink to, -1 if it was not asked; `at`
  -- is when it last declared itself.
  local needs, kernels = redis.call('HGETALL', NEEDS), {}
  local my_granted_at = 0
  for place = 1, #needs, 2 do
    local k = cjson.decode(needs[place + 1])
    k.id = needs[place]
    if k.id == me then
      my_granted_at = k.granted_at
    elseif live[k.id] then
      kernels[#kernels + 1] = k
    elseif not reclaiming then
      redis.call('HDEL', NEEDS, k.id)
    end
  end
  local this = {id = me, quota = claim.quota, used = #claim.used, pending = claim.pending,
                granted_at = my_granted_at, told = -1, at = now, held = holding, unmet = 0}
  if ask.leaves then redis.call('HDEL', NEEDS, me) else kernels[#kernels + 1] = this end
  if #kernels == 0 then return NOTHING end
  table.sort(kernels, function(a, b)
    if a.granted_at ~= b.granted_at then return a.granted_at < b.granted_at end
    return a.id < b.id
  end)
  local quota, most_quota = kernels[1].quota, kernels[1].quota
  for _, k in ipairs(kernels) do
    -- A kernel that has been silent for long may hold no free slots back from the others.
    if now - k.at > ask.silent_ms then k.pending = 0 end
    k.want, k.held = k.used + k.pending, held[k.id] or 0
    quota, most_quota = math.min(quota, k.quota), math.max(most_quota, k.quota)
  end
  shares_of(quota, kernels)

  local granted, free = {}, math.max(0, quota - total)
  local over, ahead, unmet, missing, waiting = math.max(0, total - quota), 0, 0, 0, 0
  for _, k in ipairs(kernels) do
    k.unmet = math.max(0, math.min(k.share, k.want) - k.held)
    if k ~= this then
      unmet, missing = unmet + k.unmet, missing + math.max(0, k.share - k.held)
      waiting = waiting + math.max(0, k.want - k.held)
      local before = k.held < this.held or (this.held == k.held and
        (k.granted_at < this.granted_at or (k.granted_at == this.granted_at and k.id < me)))
      if before then ahead = ahead + k.unmet end
    end
  end
  if not reclaiming and not ask.leaves then
    local count = math.min(this.unmet, math.max(0, free - ahead))
    if count > 0 then
      grants_made = grants_made + 1
      this.granted_at = grants_made
    end
    count = count + math.min(math.max(0, this.share - this.held - count), math.max(0, free - count - unmet))
    for _ = 1, count do
      token = math.max(token + 1, now * 1000)
      granted[#granted + 1] = string.format('%.0f', token)
      redis.call('ZADD', LEASES, now + lease_ms, me .. ':' .. granted[#granted])
    end
    this.held, free = this.held + count, free - count
  end

  -- Wake the kernels that can be granted a slot, those that hold what others are short of, and those that
  -- may need less by now than they last said.
  local is_short = this.want ~= nil and this.want > this.held
  for _, k in ipairs(kernels) do
    if k ~= this and not reclaiming then
      local spare = k.held > k.share and unmet + this.unmet > free and k.told ~= k.share
      local stale = is_short and k.held > 0 and now - k.at > ask.stale_ms
      if (k.unmet > 0 and free > 0) or (spare and k.held > 0) or stale then
        poked[k.id] = true
        if spare then
          k.told = k.share
          redis.call('HSET', NEEDS, k.id, cjson.encode({quota = k.quota, used = k.used, pending = k.pending,
            granted_at = k.granted_at, told = k.told, at = k.at}))
        end
      end
    end
  end
  if ask.leaves then return NOTHING end
  local short = math.max(0, missing - free) + over
  local recalled = reclaiming and 0 or math.max(0, math.min(this.held - this.share, short))
  redis.call('HSET', NEEDS, me, cjson.encode({quota = this.quota, used = this.used, pending = this.pending,
    granted_at = this.granted_at, told = recalled > 0 and this.share or -1, at = now}))
  return {granted = granted, lost = lost, share = this.share, recalled = recalled,
          waiting = waiting, quota = quota, most_quota = most_quota}
end

local grants = {}
for place, core in ipairs(ask.cores) do
  grants[core] = settle(core, KEYS[3 + 2 * place], KEYS[4 + 2 * place])
end
redis.call('HSET', META, 'server', ask.server, 'epoch', string.format('%.0f', epoch),
  'last', string.format('%.0f', now), 'token', string.format('%.0f', token), 'grants', string.format('%.0f', grants_made))
for name in pairs(poked) do redis.call('PUBLISH', ask.channel .. name, '1') end
return cjson.encode({grants = grants, kernels = names, reclaiming = reclaiming})
