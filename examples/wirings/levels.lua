-- Levels: each is a lane of its own, with threads, queue and marks that nothing else uses.

-- A level between the presets: round robin at 20, the events that are late first to go.
tempos.qos "burst" {
  rank = 100, scheduler = "rr", priority = 20,
  queue = { policy = "edf", capacity = 4096, full = "drop-oldest" },
}

-- Telemetry leaves in batches of up to 64, or after 2 ms; no more than 50,000 events a second, and less than
-- 1,000 while events wait is told.
tempos.qos "telemetry" { rank = 60, batch = 64, linger = "2ms", rate = { min = 1000, max = 50000 } }

-- A tenth of a CPU stays for best effort, whatever the levels above it do.
tempos.qos "best-effort" { share = 10 }

-- The level of an event comes from its endpoint, its topic, or a rule on its attributes, in that order of trust.
-- Rules only give what the endpoint allows: alarms of the second endpoint become strict, those of the first do not.
tempos.topic "line/events" {
  qos = "telemetry",
  rules = {
    { match = { kind = "alarm*" }, qos = "strict" },
    { match = { priority = { min = 5 } }, qos = "burst" },
  },
  ingress = {
    tempos.unix { path = "/run/tempos/guests.sock", format = "event", qos_max = "burst" },
    tempos.unix { path = "/run/tempos/machines.sock", format = "event", qos_max = "strict" },
  },
  egress = { tempos.udp { to = "127.0.0.1:5600", format = "event" } },
}
