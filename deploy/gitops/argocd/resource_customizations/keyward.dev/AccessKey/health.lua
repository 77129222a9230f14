-- The status is in kstatus format: observedGeneration, and the conditions Ready, Reconciling and Stalled.
local health = { status = "Progressing", message = "Waiting for the controller" }

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Pending deletion"
  return health
end

-- A status about an earlier spec says nothing about this one; without any it is about generation -1.
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end

local ready, active
for _, condition in ipairs(obj.status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    return { status = "Degraded", message = condition.message }
  elseif condition.type == "Ready" then
    ready = condition
  elseif condition.type == "Active" then
    active = condition
  end
end

if ready == nil then
  return health
end
health.message = ready.message

-- A key that is inactive, not valid yet, or expired is as its spec wants it: healthy. The message says so.
if ready.status == "True" then
  health.status = "Healthy"
  if active ~= nil then
    health.message = active.message
  end
elseif ready.reason == "Suspended" then
  health.status = "Suspended"
end
return health
