-- The wiring of the quickstart: this machine's own counters, once as a strict flow and once as a flood.
--
--   udp ─► node/vitals ─► summary ─► node/vitals/summary ─► unix socket      (strict)
--   udp ─► node/bulk   ─► summary ─► node/bulk/summary   ─► unix socket      (best-effort)
--
-- run.sh says where the sockets are; everything else stands here. Save this file while the node runs and
-- the difference is in force; save it with a mistake and the old wiring goes on.

local folder = tempos.env "TEMPOS_QUICKSTART_FOLDER" or "/tmp"
local strict_port = tempos.env "TEMPOS_QUICKSTART_STRICT_PORT" or "47001"
local bulk_port = tempos.env "TEMPOS_QUICKSTART_BULK_PORT" or "47002"

-- A topic that comes in through UDP, a function on each of its events, and a topic for what that says.
local function flow(name, qos, port)
  tempos.topic(name) {
    qos     = qos,
    ingress = { tempos.udp { bind = "127.0.0.1:" .. port } },
  }
  tempos.topic(name .. "/summary") {
    qos    = qos,
    egress = { tempos.group "sink" { tempos.unix { path = folder .. "/" .. qos .. ".sock" } } },
  }
  tempos.workflow("summarise/" .. qos) {
    from = name,
    to   = name .. "/summary",
    call = { method = "dlf", file = "functions/libsummary.so", deadline = "5ms" },
  }
end

flow("node/vitals", "strict", strict_port)
flow("node/bulk", "best-effort", bulk_port)
