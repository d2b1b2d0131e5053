//! A module that starts once, and every instance from there.

use super::*;

/// Says how often it was started, and fills memory while it does so.
const STARTS: &str = r#"(module
  (import "tempos" "write" (func $write (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $starts (mut i32) (i32.const 48))
  (global $calls (mut i32) (i32.const 48))
  (func (export "_initialize")
    (drop (call $random (i32.const 512) (i32.const 16)))
    (global.set $starts (i32.add (global.get $starts) (i32.const 1)))
    (i32.store (i32.const 16) (i32.const 0x656e6f64)))
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "handle") (param i32 i32) (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store8 (i32.const 20) (global.get $starts))
    (i32.store8 (i32.const 21) (global.get $calls))
    (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 114))
      (then (return (call $write (i32.const 512) (i32.const 16)))))
    (call $write (i32.const 16) (i32.const 6))))"#;

#[test]
fn every_instance_begins_where_the_snapshot_was_taken() {
    let folder = Folder::new("snapshot");
    let file = folder.wat("starts", STARTS);
    let function =
        Wanted::default().with("snapshot", OptionValue::Flag(true)).prepare(&file).expect("prepared");
    // Started once, called once: the start is in the picture, the calls are not.
    assert_eq!(done(&function, b"?").as_deref(), Some("done11"));
    assert_eq!(done(&function, b"?").as_deref(), Some("done11"));
    let drawn = || invoke(&function, b"r", 0).1.expect("an output");
    assert_eq!(drawn(), drawn(), "what was drawn at the start is the same for all");
    let plain = Wanted::default().prepare(&file).expect("prepared");
    let drawn = || invoke(&plain, b"r", 0).1.expect("an output");
    assert_ne!(drawn(), drawn());
}

#[test]
fn what_cannot_be_taken_a_snapshot_of_is_refused() {
    let folder = Folder::new("nosnapshot");
    let wanted = Wanted::default().with("snapshot", OptionValue::Flag(true));
    let traps = STARTS.replace("(drop (call $random (i32.const 512) (i32.const 16)))", "unreachable");
    let cases = [
        (folder.probe(), "exports none of wizer-initialize, wizer.initialize, _initialize"),
        (folder.wat("component", include_str!("../../guests/component.wat")), "of a core module only"),
        (
            folder.wat("traps", &traps),
            "no snapshot can be taken after _initialize: wasm trap: wasm `unreachable`",
        ),
    ];
    for (file, words) in cases {
        let error = wanted.prepare(&file).map(|_| ()).expect_err(words);
        assert!(error.message.contains(words) && !error.message.contains('\n'), "{error}");
    }
}
