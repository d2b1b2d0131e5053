//! What a guest may see through WASI, and that one which waits is left where it is at its deadline.

use super::*;

const WASI: &str = include_str!("../../guests/waits.wat");

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
