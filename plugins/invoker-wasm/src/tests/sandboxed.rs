//! What a guest may see through WASI, and that one which waits is left where it is at its deadline.

use super::*;

/// p waits for an hour, o opens the file "f" in the first folder to read, w the same to write, s says
/// something, e answers how many variables there are, x ends itself with 3, q with 0, t with the time.
const WASI: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "tempos" "write" (func $answer (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $started (mut i32) (i32.const 48))
  (data (i32.const 16) "f")
  (data (i32.const 32) "a line of the guest\0aand another\0a")
  (func (export "_initialize") (global.set $started (i32.const 49)))
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func $digit (param i32) (result i32)
    (i32.store8 (i32.const 1024) (i32.add (i32.const 48) (local.get 0)))
    (call $answer (i32.const 1024) (i32.const 1)))
  (func (export "handle") (param $at i32) (param $bytes i32) (result i32)
    (local $what i32)
    (local.set $what (i32.load8_u (local.get $at)))
    ;; a subscription at 256: the monotonic clock, in 3600 s
    (if (i32.eq (local.get $what) (i32.const 112))
      (then
        (i32.store (i32.const 272) (i32.const 1))
        (i64.store (i32.const 280) (i64.const 3600000000000))
        (drop (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 600)))
        (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 111))
      (then (return (call $digit (i32.ne (i32.const 0)
        (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 600)))))))
    (if (i32.eq (local.get $what) (i32.const 119))
      (then (return (call $digit (i32.ne (i32.const 0)
        (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 1)
          (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 600)))))))
    (if (i32.eq (local.get $what) (i32.const 115))
      (then
        (i32.store (i32.const 600) (i32.const 32))
        (i32.store (i32.const 604) (i32.const 32))
        (drop (call $write (i32.const 1) (i32.const 600) (i32.const 1) (i32.const 700)))
        (return (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 101))
      (then
        (drop (call $environ (i32.const 600) (i32.const 604)))
        (return (call $digit (i32.load (i32.const 600))))))
    (if (i32.eq (local.get $what) (i32.const 120)) (then (call $exit (i32.const 3))))
    (if (i32.eq (local.get $what) (i32.const 113)) (then (call $exit (i32.const 0))))
    (if (i32.eq (local.get $what) (i32.const 114))
      (then (return (call $random (i32.const 600) (i32.const 16)))))
    (i32.store8 (i32.const 1024) (global.get $started))
    (call $answer (i32.const 1024) (i32.const 1))))"#;

fn list(entry: String) -> OptionValue {
    OptionValue::Texts(vec![entry.into()].into())
}

#[test]
fn nothing_is_granted_that_is_not_listed() {
    let folder = Folder::new("granted");
    let file = folder.wat("wasi", WASI);
    let data = folder.0.join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::write(data.join("f"), b"content").expect("written");
    for instances in ["fresh", "reuse"] {
        let wanted = Wanted::default().with("instances", text(instances));
        // Whether it can read, write, and how many variables it sees; 0 is yes.
        let seen = |wanted: &Wanted| {
            let function = wanted.prepare(&file).expect("prepared");
            [b"o", b"w", b"e"].map(|payload| done(&function, payload).expect("an answer")).concat()
        };
        assert_eq!(seen(&wanted), "110");
        let dirs = |more: &str| list(format!("{}:/data{more}", data.display()));
        assert_eq!(seen(&wanted.clone().with("dirs", dirs(""))), "010");
        assert_eq!(seen(&wanted.clone().with("dirs", dirs(":rw"))), "000");
        assert_eq!(seen(&wanted.clone().with("env", list("A=1".into()))), "111");
        let function = wanted.prepare(&file).expect("prepared");
        assert_eq!(done(&function, b"?").as_deref(), Some("1"), "_initialize was called");
        assert_eq!(done(&function, b"r"), None, "random numbers are there");
        assert_eq!(done(&function, b"s"), None, "what it says goes to the log");
    }
}

#[test]
fn a_guest_that_waits_is_left_at_its_deadline() {
    let folder = Folder::new("waits");
    let file = folder.wat("wasi", WASI);
    for instances in ["fresh", "reuse"] {
        let wanted =
            Wanted { deadline_ns: 20_000_000, ..Wanted::default() }.with("instances", text(instances));
        let function = wanted.prepare(&file).expect("prepared");
        for _ in 0..3 {
            let begun = Instant::now();
            let (outcome, output, sentence) = invoke(&function, b"p", now_ns() + 20_000_000);
            assert_eq!((outcome, output), (Outcome::KILLED, None), "{sentence}");
            assert!(sentence.contains("it was waiting"), "{sentence}");
            assert!(begun.elapsed() >= Duration::from_millis(20));
            assert_eq!(done(&function, b"?").as_deref(), Some("1"));
        }
    }
}

#[test]
fn one_that_waits_without_a_deadline_can_be_cancelled() {
    let folder = Folder::new("cancelwait");
    let function = Wanted::default().prepare(&folder.wat("wasi", WASI)).expect("prepared");
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| invoke(&function, b"p", 0).0);
        while !guest.is_finished() {
            function.cancel(0);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(guest.join().expect("no panic"), Outcome::KILLED);
    });
}

#[test]
fn a_guest_that_ends_itself_has_failed_or_has_not_answered() {
    let folder = Folder::new("exits");
    let function = Wanted::default().prepare(&folder.wat("wasi", WASI)).expect("prepared");
    assert_eq!(invoke(&function, b"x", 0), (Outcome::failed(3), None, "it ended itself with exit(3)".into()));
    let (outcome, _, sentence) = invoke(&function, b"q", 0);
    assert_eq!(
        (outcome, &sentence[..]),
        (Outcome::BAD_OUTPUT, "it ended itself with exit(0) instead of answering")
    );
    assert_eq!(done(&function, b"?").as_deref(), Some("1"));
}
