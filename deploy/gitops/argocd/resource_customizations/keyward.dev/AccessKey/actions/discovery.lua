-- These actions change the spec: where it stands in Git, selfHeal undoes them.
local inactive = obj.spec.state == "Inactive"

-- One rotation after the other: the next is offered once the controller has taken up the last.
local wanted = obj.spec.rotation ~= nil and obj.spec.rotation.revision or 1
local settled = obj.status ~= nil and obj.status.key ~= nil and (obj.status.rotationRequested or 1) >= wanted

local actions = {}
actions["activate"] = { ["iconClass"] = "fa fa-fw fa-play", ["disabled"] = not inactive }
actions["deactivate"] = { ["iconClass"] = "fa fa-fw fa-stop", ["disabled"] = inactive }
actions["rotate"] = { ["iconClass"] = "fa fa-fw fa-sync", ["disabled"] = not settled }
return actions
