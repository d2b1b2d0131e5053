"use strict";

const assert = require("assert");
const { handle } = require("./{{ident}}.js");

const event = (text) => ({ payload: Buffer.from(text), attributes: {}, topic: "{{name}}/in", id: 1 });

assert.strictEqual(handle(event("how loud?")), "HOW LOUD?");
assert.throws(() => handle(event("")), /empty/);
console.log("ok: a text becomes loud, an empty event is refused");
