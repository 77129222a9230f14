-- A new secret for the same key; the old one stays valid for spec.rotation.overlap.
if obj.spec.rotation == nil then
  obj.spec.rotation = {}
end
obj.spec.rotation.revision = (obj.spec.rotation.revision or 1) + 1
return obj
