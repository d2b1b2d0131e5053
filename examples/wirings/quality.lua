-- Quality in figures: what is asked for, what may be chosen for it, and what happens where it cannot be met.
-- `temposctl explain press/vibration` shows what each hop gives, and why.

tempos.topic "press/vibration" {
  -- No qos: the node takes the lowest level that is enough.
  request  = { latency_p99 = "5ms", rate = "1000/s", loss = 0 },
  allow    = { levels = { "strict", "best-effort" } },
  on_unmet = "degrade", -- the best that can be given, shown as degraded; "refuse" would refuse the whole wiring
  ingress  = { tempos.unix { path = "/run/tempos/vibration.in" } },
  egress   = { tempos.unix { path = "/run/tempos/vibration.out" } },
}

tempos.topic "press/log" {
  -- A level by its name, and a rate: events of other topics on this level are promised nothing without it.
  qos     = "best-effort",
  request = { rate = "200/s", delivery = "at-most-once" },
  ingress = { tempos.udp { bind = "127.0.0.1:5514", rate = 200 } },
  egress  = { tempos.unix { path = "/run/tempos/log.out" } },
}

tempos.topic "press/stop" {
  -- Guaranteed on a node that was calibrated (temposctl calibrate --time 2min): its source is held to a rate, and unix is
  -- no network. `burst` lets one that is read late be followed at once.
  qos     = "strict",
  request = { latency_p99 = "10ms" },
  on_unmet = "degrade",
  ingress = { tempos.unix { path = "/run/tempos/stop.in", rate = 500, burst = 8 } },
  egress  = { tempos.unix { path = "/run/tempos/stop.out" } },
}
