-- Request and reply: an event that carries the attribute reply-to gets its answer on the topic named there, with
-- the same correlation-id.
--
--   temposctl pub ask '{"pattern":"x","text":"xyx"}' --reply-to answers --timeout 2s

tempos.topic "ask" { qos = "strict", ingress = { tempos.unix { path = "/run/tempos/ask.sock", format = "event" } } }

-- Only a topic that says so takes replies. A reply that comes after its deadline is dropped.
tempos.topic "answers" {
  replies = true, late = "drop", deadline = "500ms",
  egress = { tempos.udp { to = "127.0.0.1:5800", format = "event" } },
}

tempos.workflow "answer" {
  from = "ask", reply = true,
  call = { method = "dlf", file = "../functions/summary-rust/target/release/libsummary.so", deadline = "50ms" },
}
