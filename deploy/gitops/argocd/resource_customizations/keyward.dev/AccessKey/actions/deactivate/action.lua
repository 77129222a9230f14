-- Nobody may use the key from now on; its sessions are cut.
obj.spec.state = "Inactive"
return obj
