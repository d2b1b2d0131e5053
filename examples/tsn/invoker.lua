-- The third node: a function works on each strict event, and its answers go to a sink on this machine.
--
--   i-q:7001 ─► sensor ─► control ─► results ─► udp 127.0.0.1:47100
local folder = tempos.env "TEMPOS_TSN_FOLDER" or "/run/tempos"

tempos.topic "sensor" {
  qos     = "strict",
  ingress = { tempos.tsn { over = "udp", bind = "10.9.2.2:7001", interface = "i-q" } },
}
tempos.workflow "control" {
  from = "sensor",
  to   = "results",
  call = { method = "dlf", file = folder .. "/control.so", deadline = "5ms" },
}
tempos.topic "results" {
  qos    = "strict",
  egress = { tempos.udp { to = "127.0.0.1:47100" } },
}
tempos.topic "logs" {
  qos     = "best-effort",
  ingress = { tempos.tsn { over = "udp", bind = "10.9.2.2:7002", interface = "i-q" } },
  egress  = { tempos.unix { path = folder .. "/best-effort.sock" } },
}
