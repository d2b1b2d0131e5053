;; A function for tests as a component of the world tempos:function/function@0.1.0 (see ../wit). The first byte
;; of an event says what it does: f fails, n makes no output, i never ends, t traps, c counts, a answers with
;; the attribute "unit", anything else comes back.
(component
  (type $types-type (instance
    (type $event (record
      (field "id" u64) (field "topic" string) (field "level" u32) (field "source-time-ns" u64)
      (field "arrival-ns" u64) (field "deadline-ns" u64) (field "payload" (list u8))))
    (export "event" (type (eq $event)))
    (type $value (variant
      (case "bytes" (list u8)) (case "text" string) (case "unsigned" u64) (case "signed" s64)
      (case "address" (list u8))))
    (export "value" (type (eq $value)))
    (type $error (record (field "code" u8) (field "sentence" string)))
    (export "error" (type (eq $error)))))
  (import "tempos:function/types@0.1.0" (instance $types (type $types-type)))
  (alias export $types "event" (type $event))
  (alias export $types "value" (type $value))
  (alias export $types "error" (type $error))
  (type $host-type (instance
    (alias outer 1 $value (type $value))
    (export "value" (type $its-value (eq $value)))
    (export "attribute" (func (param "key" string) (result (option $its-value))))))
  (import "tempos:function/host@0.1.0" (instance $host (type $host-type)))

  (core module $memory-module
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at
        (i32.and
          (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
          (i32.sub (i32.const 0) (local.get 2))))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
          (i32.shr_u (local.get 3) (i32.const 16))))))
        unreachable)
      (local.get $at)))
  (core instance $memory (instantiate $memory-module))
  (core func $attribute
    (canon lower (func $host "attribute") (memory $memory "memory") (realloc (func $memory "realloc"))))

  (core module $code
    (import "memory" "memory" (memory 1))
    (import "host" "attribute" (func $attribute (param i32 i32 i32)))
    (global $calls (mut i32) (i32.const 0))
    (data (i32.const 16) "the bearing is not known")
    (data (i32.const 48) "unit")
    ;; An output at 1024: result (0 at 1024), option (at 1028), list (at 1032 and 1036).
    (func $some (param $at i32) (param $bytes i32) (result i32)
      (i32.store (i32.const 1024) (i32.const 0))
      (i32.store (i32.const 1028) (i32.const 1))
      (i32.store (i32.const 1032) (local.get $at))
      (i32.store (i32.const 1036) (local.get $bytes))
      (i32.const 1024))
    (func (export "handle")
      (param $id i64) (param $topic i32) (param $topic-bytes i32) (param $level i32) (param $source i64)
      (param $arrival i64) (param $deadline i64) (param $at i32) (param $bytes i32) (result i32)
      (local $what i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (if (local.get $bytes) (then (local.set $what (i32.load8_u (local.get $at)))))
      (if (i32.eq (local.get $what) (i32.const 102))
        (then
          (i32.store (i32.const 1024) (i32.const 1))
          (i32.store (i32.const 1028) (i32.const 7))
          (i32.store (i32.const 1032) (i32.const 16))
          (i32.store (i32.const 1036) (i32.const 24))
          (return (i32.const 1024))))
      (if (i32.eq (local.get $what) (i32.const 110))
        (then (i64.store (i32.const 1024) (i64.const 0)) (return (i32.const 1024))))
      (if (i32.eq (local.get $what) (i32.const 105)) (then (loop $forever (br $forever))))
      (if (i32.eq (local.get $what) (i32.const 116)) (then unreachable))
      (if (i32.eq (local.get $what) (i32.const 99))
        (then
          (i32.store8 (i32.const 2048) (i32.add (i32.const 48) (i32.rem_u (global.get $calls) (i32.const 10))))
          (return (call $some (i32.const 2048) (i32.const 1)))))
      ;; option at 512, the case of the variant at 520, its text at 528 and 532
      (if (i32.eq (local.get $what) (i32.const 97))
        (then
          (call $attribute (i32.const 48) (i32.const 4) (i32.const 512))
          (if (i32.ne (i32.load8_u (i32.const 520)) (i32.const 1)) (then unreachable))
          (return (call $some (i32.load (i32.const 528)) (i32.load (i32.const 532))))))
      (call $some (local.get $at) (local.get $bytes))))
  (core instance $host-instance (export "attribute" (func $attribute)))
  (core instance $instance (instantiate $code
    (with "memory" (instance $memory)) (with "host" (instance $host-instance))))

  (func $handle (param "e" $event) (result (result (option (list u8)) (error $error)))
    (canon lift (core func $instance "handle") (memory $memory "memory") (realloc (func $memory "realloc"))))
  (export "handle" (func $handle)))
