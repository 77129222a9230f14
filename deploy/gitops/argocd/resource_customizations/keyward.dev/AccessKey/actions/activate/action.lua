-- The secret stays the same.
obj.spec.state = "Active"
return obj
