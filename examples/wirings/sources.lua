-- What an endpoint lets in, source by source.

tempos.topic "gateway/readings" {
  ingress = {
    -- 2,000 events a second, 200 at once after a pause; more are read later. Of one sender no more than 100 a
    -- second: the others do not pay for one that went wild. Nothing above 4 KiB.
    tempos.udp { bind = "127.0.0.1:5700", rate = 2000, burst = 200, producer_rate = 100, event_max = "4KiB" },
    -- At most 64 events of this one in the node at a time; what a sender repeats is dropped.
    tempos.unix {
      path = "/run/tempos/readings.sock", type = "seqpacket", format = "event", in_flight = 64, duplicates = "drop",
    },
  },
  egress = { tempos.udp { to = "127.0.0.1:5701" } },
}
