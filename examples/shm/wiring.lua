-- Programs of this machine over shared memory: what producers write at the one end a consumer reads at the other.
--
--   producer.c ─► shm ─► local/readings ─► shm ─► consumer.c      (strict)

local folder = tempos.env "TEMPOS_SHM_FOLDER" or "/run/tempos"

-- A full queue holds the producers back instead of dropping.
tempos.qos "strict" { queue = { full = "block" } }

tempos.topic "local/readings" {
  qos     = "strict",
  ingress = { tempos.shm { path = folder .. "/in", connections = 4, capacity = "256KiB" } },
  egress  = { tempos.group "readers" { tempos.shm { path = folder .. "/out" } } },
}
