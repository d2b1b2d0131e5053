-- {{name}}: what comes to {{name}}/in is answered on {{name}}/out, or where the sender wants its reply.
tempos.topic "{{name}}/in" {}
tempos.topic "{{name}}/out" { replies = true }

tempos.workflow "{{name}}" {
  from = "{{name}}/in", to = "{{name}}/out",
  call = { {{call}} },
}
