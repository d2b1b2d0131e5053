// Runs `handle(event)` of a JavaScript source as a resident worker of TEMPOS: frames come on descriptor 3 and
// answers go on 4, so that nothing the function prints can break them. Argument: the file.
"use strict";
const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");

const EVENT_BYTES = 48;
const NO_OUTPUT = 256, BAD_OUTPUT = 259;

function read(buffer, count) {
  let at = 0;
  while (at < count) {
    const got = fs.readSync(3, buffer, at, count - at, null);
    if (got === 0) return false;
    at += got;
  }
  return true;
}

function answer(call, status, explanation, payload) {
  const said = Buffer.from(explanation || "").subarray(0, 1024);
  const body = payload || Buffer.alloc(0);
  const frame = Buffer.allocUnsafe(24 + said.length + body.length);
  frame.writeUInt32LE(20 + said.length + body.length, 0);
  frame.writeUInt32LE(status, 4);
  frame.writeBigUInt64LE(call, 8);
  frame.writeUInt32LE(said.length, 16);
  frame.writeUInt32LE(body.length, 20);
  said.copy(frame, 24);
  frame.set(body, 24 + said.length);
  for (let sent = 0; sent < frame.length; ) sent += fs.writeSync(4, frame, sent);
}

function attributes(block) {
  const found = {};
  for (let at = 0; at + 4 <= block.length; ) {
    const kind = block[at + 1], keyEnd = at + 4 + block[at];
    const end = keyEnd + block.readUInt16LE(at + 2);
    const key = block.toString("utf8", at + 4, keyEnd), value = block.subarray(keyEnd, end);
    const number = kind === 2 ? () => value.readBigUInt64LE() : () => value.readBigInt64LE();
    const small = (n) => (Number.isSafeInteger(Number(n)) ? Number(n) : n);
    if (!(key in found)) {
      found[key] = kind === 1 ? value.toString() : kind === 2 || kind === 3 ? small(number()) : Buffer.from(value);
    }
    at = end;
  }
  return found;
}

class Event {
  constructor(head, rest, topic, block) {
    this.id = head.readBigUInt64LE(16);
    this.sourceTimeNs = head.readBigUInt64LE(24);
    this.deadlineNs = head.readBigUInt64LE(32);
    this.level = head[40];
    this.topic = rest.toString("utf8", 0, topic);
    this.block = rest.subarray(topic, topic + block);
    this.payload = rest.subarray(topic + block);
  }
  get text() { return this.payload.toString(); }
  get attributes() { return attributes(this.block); }
}

async function main() {
  const file = path.resolve(process.argv[1]);
  let functions;
  try {
    functions = require(file);
  } catch (error) {
    if (error.code !== "ERR_REQUIRE_ESM" && !(error instanceof SyntaxError)) throw error;
    functions = await import(pathToFileURL(file));
  }
  const handle = functions.handle || (functions.default && functions.default.handle);
  if (typeof handle !== "function") {
    throw new Error(`${file} exports no function handle(event)`);
  }
  answer(0n, 0);
  const head = Buffer.alloc(EVENT_BYTES);
  while (read(head, EVENT_BYTES)) {
    const [topic, block, payload] = [head.readUInt16LE(4), head.readUInt16LE(6), head.readUInt32LE(44)];
    const call = head.readBigUInt64LE(8);
    const rest = Buffer.allocUnsafe(topic + block + payload);
    if (!read(rest, rest.length)) break;
    let result;
    try {
      result = handle(new Event(head, rest, topic, block));
      if (result instanceof Promise) result = await result;
    } catch (error) {
      const code = Number.isInteger(error && error.code) && error.code >= 1 && error.code <= 255 ? error.code : 1;
      answer(call, code, String(error && error.name ? `${error.name}: ${error.message}` : error));
      continue;
    }
    if (result === undefined || result === null) answer(call, NO_OUTPUT);
    else if (typeof result === "string") answer(call, 0, "", Buffer.from(result));
    else if (result instanceof Uint8Array) answer(call, 0, "", result);
    else answer(call, BAD_OUTPUT, `handle gave back ${typeof result}; give back a string, bytes or nothing`);
  }
  process.exit(0);
}

main().catch((error) => {
  fs.writeSync(2, `${error && error.message ? error.message.split("\n")[0] : error}\n`);
  process.exit(1);
});
