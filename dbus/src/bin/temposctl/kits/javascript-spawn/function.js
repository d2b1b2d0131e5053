// A TEMPOS function: answers a text with the same in capital letters.
//
// `event` has payload (a Buffer), attributes, topic and id. What is given back is the output (a string or bytes),
// nothing is no output, an exception is a failure.
"use strict";

function handle(event) {
  if (event.payload.length === 0) {
    throw new Error("the event is empty");
  }
  return event.payload.toString().toUpperCase();
}

module.exports = { handle };
