-- The first node: events of a producer leave in the windows of the first link.
--
--   udp 127.0.0.1:47001 ─► strict       ─► 10.9.1.2:7001, priority 7
--   udp 127.0.0.1:47002 ─► best effort  ─► 10.9.1.2:7002, priority 0
local plan = (tempos.env "TEMPOS_TSN_FOLDER" or "/etc/tempos") .. "/plan.toml"

local function flow(name, qos, from, to, priority)
  tempos.topic(name) {
    qos     = qos,
    ingress = { tempos.udp { bind = from } },
    egress  = { tempos.tsn { name = name .. "/out", over = "udp", to = to, interface = "t-q", priority = priority,
                             schedule = plan, hop = "trigger-queue" } },
  }
end

flow("sensor", "strict", "127.0.0.1:47001", "10.9.1.2:7001", 7)
flow("logs", "best-effort", "127.0.0.1:47002", "10.9.1.2:7002", 0)
