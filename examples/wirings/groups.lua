-- Subscription groups: every group gets each event, one member of the group receives it.

tempos.topic "press/vibration" {
  qos = "strict",
  ingress = { tempos.udp { bind = "127.0.0.1:5501" } },
  egress = {
    -- Members take turns. One that takes nothing for 200 ms, or refuses, is out: the others get its events, and
    -- it is back as soon as it takes some again.
    tempos.group "analysers" {
      tempos.unix { path = "/run/tempos/analyser-1.sock" },
      tempos.unix { path = "/run/tempos/analyser-2.sock" },
      pick = "least-loaded", stall = "200ms",
    },
    -- A recorder that nobody waits for: what it cannot take is counted, the analysers never notice.
    tempos.udp { to = "127.0.0.1:5502" },
  },
}
