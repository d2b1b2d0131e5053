-- The second node: what came over the first link leaves in the windows of the second, which open later.
local plan = (tempos.env "TEMPOS_TSN_FOLDER" or "/etc/tempos") .. "/plan.toml"

local function flow(name, qos, from, to, priority)
  tempos.topic(name) {
    qos     = qos,
    ingress = { tempos.tsn { over = "udp", bind = from, interface = "q-t" } },
    egress  = { tempos.tsn { name = name .. "/out", over = "udp", to = to, interface = "q-i", priority = priority,
                             schedule = plan, hop = "queue-invoker" } },
  }
end

flow("sensor", "strict", "10.9.1.2:7001", "10.9.2.2:7001", 7)
flow("logs", "best-effort", "10.9.1.2:7002", "10.9.2.2:7002", 0)
