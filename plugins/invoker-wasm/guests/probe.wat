;; A function for tests: the first byte of an event says what it does. Its contract is in ../README.md.
(module
  (import "tempos" "write" (func $write (param i32 i32) (result i32)))
  (import "tempos" "explain" (func $explain (param i32 i32)))
  (import "tempos" "log" (func $log (param i32 i32 i32)))
  (import "tempos" "attribute" (func $attribute (param i32 i32 i32 i32) (result i32)))
  (import "tempos" "attribute_number" (func $attribute_number (param i32 i32 i32) (result i32)))
  (import "tempos" "topic" (func $topic (param i32 i32) (result i32)))
  (import "tempos" "event" (func $event (param i32) (result i64)))
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 16) "the bearing is not known")
  (data (i32.const 48) "unit")
  (data (i32.const 64) "peer.uid")
  (data (i32.const 80) "peer")
  (data (i32.const 96) "a line of the guest")
  (data (i32.const 128) "fine")

  ;; One event at a time: each one finds the same place. Memory grows for a long one.
  (func (export "alloc") (param $bytes i32) (result i32)
    (local $pages i32)
    (local.set $pages
      (i32.sub
        (i32.shr_u (i32.add (local.get $bytes) (i32.const 69631)) (i32.const 16))
        (memory.size)))
    (if (i32.gt_s (local.get $pages) (i32.const 0))
      (then (drop (memory.grow (local.get $pages)))))
    (i32.const 4096))

  (func $deeper (param i32) (result i32)
    (i32.add (call $deeper (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))

  (func $bomb (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))))

  (func $answer (param $bytes i32) (result i32)
    (drop (call $write (i32.const 1024) (local.get $bytes)))
    (i32.const 0))

  (func (export "handle") (param $at i32) (param $bytes i32) (result i32)
    (local $what i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (i32.eqz (local.get $bytes)) (then (return (i32.const 0))))
    (local.set $what (i32.load8_u (local.get $at)))
    ;; e: the event itself
    (if (i32.eq (local.get $what) (i32.const 101))
      (then (drop (call $write (local.get $at) (local.get $bytes))) (return (i32.const 0))))
    ;; n: nothing
    (if (i32.eq (local.get $what) (i32.const 110)) (then (return (i32.const 0))))
    ;; z: an empty output
    (if (i32.eq (local.get $what) (i32.const 122))
      (then (drop (call $write (i32.const 0) (i32.const 0))) (return (i32.const 0))))
    ;; f: fails with a sentence
    (if (i32.eq (local.get $what) (i32.const 102))
      (then (call $explain (i32.const 16) (i32.const 24)) (return (i32.const 7))))
    ;; b: a code that is none
    (if (i32.eq (local.get $what) (i32.const 98)) (then (return (i32.const 300))))
    ;; l: writes until nothing more fits
    (if (i32.eq (local.get $what) (i32.const 108))
      (then
        (loop $more (br_if $more (i32.eqz (call $write (local.get $at) (i32.const 1)))))
        (return (i32.const 0))))
    ;; i: never ends
    (if (i32.eq (local.get $what) (i32.const 105)) (then (loop $forever (br $forever))))
    ;; m: takes memory until there is none, and cannot go on then; M: goes on
    (if (i32.eq (local.get $what) (i32.const 109)) (then (call $bomb) unreachable))
    (if (i32.eq (local.get $what) (i32.const 77))
      (then (call $bomb) (return (call $write (i32.const 128) (i32.const 4)))))
    ;; t, d, o, s: traps of four kinds
    (if (i32.eq (local.get $what) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $what) (i32.const 100))
      (then (return (i32.div_u (i32.const 1) (i32.sub (local.get $what) (i32.const 100))))))
    (if (i32.eq (local.get $what) (i32.const 111)) (then (return (i32.load (i32.const -8)))))
    (if (i32.eq (local.get $what) (i32.const 115)) (then (return (call $deeper (i32.const 0)))))
    ;; c: how often it was called
    (if (i32.eq (local.get $what) (i32.const 99))
      (then
        (i32.store8 (i32.const 1024) (i32.add (i32.const 48) (i32.rem_u (global.get $calls) (i32.const 10))))
        (return (call $answer (i32.const 1)))))
    ;; g: says something; G: says it a thousand times
    (if (i32.eq (local.get $what) (i32.const 103))
      (then (call $log (i32.const 1) (i32.const 96) (i32.const 19)) (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 71))
      (then
        (global.set $calls (i32.const 1000))
        (loop $more
          (call $log (i32.const 2) (i32.const 96) (i32.const 19))
          (global.set $calls (i32.sub (global.get $calls) (i32.const 1)))
          (br_if $more (global.get $calls)))
        (return (i32.const 0))))
    ;; a: the attribute unit; u: the attribute peer.uid; p: the attribute peer; x: the number peer.uid, 8 bytes
    (if (i32.eq (local.get $what) (i32.const 97))
      (then (return (call $answer
        (call $attribute (i32.const 48) (i32.const 4) (i32.const 1024) (i32.const 64))))))
    (if (i32.eq (local.get $what) (i32.const 117))
      (then (return (call $answer
        (call $attribute (i32.const 64) (i32.const 8) (i32.const 1024) (i32.const 64))))))
    (if (i32.eq (local.get $what) (i32.const 112))
      (then (return (call $answer
        (call $attribute (i32.const 80) (i32.const 4) (i32.const 1024) (i32.const 64))))))
    (if (i32.eq (local.get $what) (i32.const 120))
      (then
        (if (i32.eqz (call $attribute_number (i32.const 64) (i32.const 8) (i32.const 1024)))
          (then (return (i32.const 9))))
        (return (call $answer (i32.const 8)))))
    ;; k: the topic; j: the event's id, 8 bytes
    (if (i32.eq (local.get $what) (i32.const 107))
      (then (return (call $answer (call $topic (i32.const 1024) (i32.const 64))))))
    (if (i32.eq (local.get $what) (i32.const 106))
      (then (i64.store (i32.const 1024) (call $event (i32.const 0))) (return (call $answer (i32.const 8)))))
    ;; w: writes what it does not have
    (if (i32.eq (local.get $what) (i32.const 119))
      (then (return (call $write (i32.const -16) (i32.const 1000)))))
    ;; anything else: its first bytes
    (if (i32.gt_u (local.get $bytes) (i32.const 16)) (then (local.set $bytes (i32.const 16))))
    (call $write (local.get $at) (local.get $bytes))))
