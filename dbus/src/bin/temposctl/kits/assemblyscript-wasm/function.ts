// A TEMPOS function: answers a text with the same in capital letters.

@external("tempos", "write") declare function write(data: usize, bytes: i32): i32;
@external("tempos", "explain") declare function explain(sentence: usize, bytes: i32): void;

/** Room for an event. */
export function alloc(bytes: i32): usize {
  return heap.alloc(bytes);
}

/** Works on the event that was put where `alloc` said: 0 is well, 1 to 255 are the function's own failures. */
export function handle(event: usize, bytes: i32): i32 {
  if (bytes == 0) {
    return fail(1, "the event is empty");
  }
  for (let at = event; at < event + bytes; at++) {
    const letter = load<u8>(at);
    if (letter >= 97 && letter <= 122) {
      store<u8>(at, letter - 32);
    }
  }
  write(event, bytes);
  return 0;
}

function fail(code: i32, sentence: string): i32 {
  const text = String.UTF8.encode(sentence);
  explain(changetype<usize>(text), text.byteLength);
  return code;
}
