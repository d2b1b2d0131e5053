-- The third node: events end here. In place of the sink stands the function of a workflow (see README.md).
local folder = tempos.env "TEMPOS_TSN_FOLDER" or "/run/tempos"

tempos.topic "sensor" {
  qos     = "strict",
  ingress = { tempos.tsn { over = "udp", bind = "10.9.2.2:7001", interface = "i-q" } },
  egress  = { tempos.unix { path = folder .. "/strict.sock" } },
}
tempos.topic "logs" {
  qos     = "best-effort",
  ingress = { tempos.tsn { over = "udp", bind = "10.9.2.2:7002", interface = "i-q" } },
  egress  = { tempos.unix { path = folder .. "/best-effort.sock" } },
}
