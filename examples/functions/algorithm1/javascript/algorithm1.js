// Algorithm 1 of the TEMPOS paper (Garbugli et al., IEEE Access 10, 2022) for the method spawn.
//
// The event is {"message": "...", "pattern": "..."}; the answer is {"occurrences":N,"result":X}.
"use strict";

function handle(event) {
  const { message, pattern } = deserialise(event.payload);
  if (pattern === "") {
    throw new Error("the pattern is empty");
  }
  // From the left; what was counted is not counted again.
  const occurrences = message.split(pattern).length - 1;
  return `{"occurrences":${occurrences},"result":${powersAndRoots(occurrences).toFixed(6)}}`;
}

function deserialise(payload) {
  let members = null;
  try {
    members = JSON.parse(Buffer.from(payload).toString("utf8"));
  } catch {
    // Answered below.
  }
  if (typeof members?.message !== "string" || typeof members?.pattern !== "string") {
    throw new Error('the event is not {"message": "...", "pattern": "..."}');
  }
  return members;
}

function powersAndRoots(count) {
  let result = 0;
  for (let i = 0; i < count; i++) {
    result += i % 2 === 0 ? Math.pow(i, 2) : Math.sqrt(i);
  }
  return result;
}

module.exports = { handle };
