-- Only a Device that has, or had, a rival with the same ID has a status.
local health = { status = "Healthy" }

if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "Pending deletion" }
end

if obj.status == nil then
  return health
end
if obj.status.observedGeneration ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the controller" }
end

for _, condition in ipairs(obj.status.conditions or {}) do
  if condition.type == "Ready" then
    health.message = condition.message
    -- The older of the two counts, and this one for nothing: somebody has to change or delete one.
    if condition.status ~= "True" then
      health.status = "Degraded"
    end
  end
end
return health
