// Runs the module with what the node offers made of plain JavaScript.
"use strict";

const assert = require("assert");
const module_ = new WebAssembly.Module(require("fs").readFileSync("{{name}}.wasm"));

function ask(text) {
  let answer = "";
  const at = (address, bytes) => Buffer.from(exports.memory.buffer, address, bytes);
  const write = (address, bytes) => { answer += at(address, bytes).toString(); return 0; };
  const { exports } = new WebAssembly.Instance(module_, { tempos: { write, explain() {} } });
  const event = Buffer.from(text);
  const room = exports.alloc(event.length);
  event.copy(at(room, event.length));
  return [exports.handle(room, event.length), answer];
}

assert.deepStrictEqual(ask("how loud?"), [0, "HOW LOUD?"]);
assert.deepStrictEqual(ask(""), [1, ""]);
console.log("ok: a text becomes loud, an empty event is refused");
