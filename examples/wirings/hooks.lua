-- Hooks: functions that are called when something happens, and may change a part of what is declared.

-- Alarms and pictures share the strict lane while there is time for both.
tempos.topic "line/alarms" {
  qos = "strict", deadline = "5ms", late = "pass",
  ingress = { tempos.unix { path = "/run/tempos/alarms.sock" } },
  egress = { tempos.udp { to = "127.0.0.1:5700" } },
}
tempos.topic "line/pictures" {
  qos = "strict",
  ingress = { tempos.unix { path = "/run/tempos/pictures.sock" } },
  egress = { tempos.udp { to = "127.0.0.1:5701" } },
}

-- Too many pictures make alarms late: then the pictures go to a lane of their own, and come back after ten seconds
-- without a late alarm.
tempos.on("deadline-missed", { name = "line/alarms", hold = "10s" }, function(e)
  print(e.state, e.count, e.reason)
  if e.state == "begins" then tempos.change("topic", "line/pictures", { qos = "best-effort" }) end
  if e.state == "ended" then tempos.change("topic", "line/pictures", { qos = "strict" }) end
end)

-- A way out that fails is told in the log; what it has kept from call to call is an ordinary variable.
local failures = 0
tempos.on("channel-down", function(e)
  if e.state == "begins" then failures = failures + 1 end
  print(e.name, e.state, e.reason, "failures so far: " .. failures)
end)
