//! Mode `each`.

use super::*;

/// Within which everything that is to be stopped is told to be.
const SHORT_NS: u64 = 150_000_000;

#[test]
fn an_event_is_input_and_environment_and_what_is_written_is_the_output() {
    let folder = Folder::new();
    let file = folder.script(
        "cat; echo; echo \"$TEMPOS_ID $TEMPOS_TOPIC $TEMPOS_LEVEL $TEMPOS_SOURCE_TIME_NS $1 $OWN\"; env | grep ATTR | sort",
    );
    let options = [("args", texts(&["first"])), ("env", texts(&["OWN=mine", "PATH=/bin:/usr/bin"]))];
    let function = prepare(&spec(&file, &options));
    let expected = "payload\n42 press/vibration 1 17 first mine\nTEMPOS_ATTR_OFFSET=-5\n\
                    TEMPOS_ATTR_PEER_ADDRESS=127.0.0.1:256\nTEMPOS_ATTR_PEER_UID=1234\nTEMPOS_ATTR_UNIT=mm/s\n";
    for _ in 0..3 {
        let result = invoke(&function, b"payload");
        assert_eq!((result.outcome, result.text(), &result.said[..]), (Outcome::DONE, expected, ""));
    }
    // Larger than any pipe.
    let count = prepare(&spec(&folder.script("wc -c"), &[]));
    assert_eq!(invoke(&count, &vec![7; 3 << 20]).text().trim(), (3 << 20).to_string());
}

#[test]
fn nothing_of_the_node_but_three_descriptors_reaches_it() {
    let folder = Folder::new();
    // The test's own files are close-on-exec; this one is not.
    // SAFETY: no pointers.
    let leaked = unsafe { libc::dup(std::fs::File::open("/dev/null").expect("there").as_raw_fd()) };
    assert!(leaked > 2);
    // `ls` has a descriptor of its own for the folder.
    let function = prepare(&spec(&folder.script("exec ls /proc/self/fd"), &[]));
    let result = invoke(&function, b"");
    // SAFETY: just opened.
    unsafe { libc::close(leaked) };
    assert_eq!(
        result.text().split_ascii_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"],
        "{result:?}"
    );
}

#[test]
fn each_end_is_told_as_what_it_was_and_the_next_event_is_served() {
    let folder = Folder::new();
    let cases: [(&str, u64, Outcome, Option<&str>, &str); 12] = [
        ("exit 0", LIVENESS_NS, Outcome::DONE, None, ""),
        ("echo well; exit 0", LIVENESS_NS, Outcome::DONE, Some("well\n"), ""),
        (
            "echo first >&2; echo ' the last ' >&2; exit 7",
            LIVENESS_NS,
            Outcome::failed(7),
            None,
            "it ended with code 7: the last",
        ),
        ("kill -SEGV $$", LIVENESS_NS, Outcome::CRASHED, None, "it was ended by signal 11 (SIGSEGV)"),
        ("kill -KILL $$", LIVENESS_NS, Outcome::CRASHED, None, "it was ended by signal 9 (SIGKILL)"),
        ("while :; do :; done", SHORT_NS, Outcome::KILLED, None, "it was stopped at its deadline"),
        (
            "trap '' TERM INT HUP; sleep 1000 & wait",
            SHORT_NS,
            Outcome::KILLED,
            None,
            "it was stopped at its deadline",
        ),
        ("exec >&- 2>&- <&-; sleep 1000", SHORT_NS, Outcome::KILLED, None, "it was stopped at its deadline"),
        ("sleep 0.2; echo late", 100_000_000_000, Outcome::DONE, Some("late\n"), ""),
        ("yes", LIVENESS_NS, Outcome::OUTPUT_TOO_LARGE, None, ""),
        ("yes >&2", SHORT_NS, Outcome::KILLED, None, "it was stopped at its deadline"),
        ("exec /nowhere/at/all", LIVENESS_NS, Outcome::failed(127), None, "not found"),
    ];
    for (body, within, outcome, output, said) in cases {
        let file = folder.script(&format!("[ \"$(head -c 4)\" = next ] && exit 9\n{body}"));
        let function = prepare(&spec(&file, &[]));
        let result = invoke_within(&function, 0, b"this", within);
        assert_eq!(result.outcome, outcome, "{body}: {result:?}");
        assert_eq!(result.output.as_deref(), output.map(str::as_bytes), "{body}: {result:?}");
        assert!(
            result.said.ends_with(said) && result.said.is_empty() == said.is_empty(),
            "{body}: {result:?}"
        );
        eventually("nothing to be left", || children_of(&file).is_empty());
        assert_eq!(invoke(&function, b"next").outcome, Outcome::failed(9), "{body}");
    }
}

#[test]
fn what_it_started_ends_with_it() {
    let folder = Folder::new();
    let file = folder.script("sleep 1000 & echo $!; [ \"$(cat)\" = wait ] && wait; exit 0");
    let function = prepare(&spec(&file, &[]));
    for (payload, outcome) in [(&b"go"[..], Outcome::DONE), (b"wait", Outcome::KILLED)] {
        let result = invoke_within(&function, 0, payload, 500_000_000);
        assert_eq!(result.outcome, outcome, "{result:?}");
        if outcome == Outcome::DONE {
            let pid = result.text().trim().parse().expect("a number");
            eventually("the grandchild to be gone", || !lives(pid));
        }
    }
}

#[test]
fn an_invocation_that_is_cancelled_ends_early() {
    let folder = Folder::new();
    let function = prepare(&spec(&folder.script("sleep 1000"), &[]));
    let result = std::thread::scope(|scope| {
        let invocation = scope.spawn(|| invoke_within(&function, 2, b"", 1_000_000_000_000));
        while !invocation.is_finished() {
            function.cancel(2);
            function.cancel(u32::MAX);
            std::thread::sleep(Duration::from_millis(1));
        }
        invocation.join().expect("no panic")
    });
    assert_eq!((result.outcome, &result.said[..]), (Outcome::KILLED, "it was told to end early"));
}

#[test]
fn memory_beyond_the_limit_is_told_from_a_crash() {
    let folder = Folder::new();
    let bomb = |refused: &str| {
        format!(
            "#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\nint main(void)\n{{\n\
             for (;;) {{ char *p = malloc(1 << 20); if (!p) {{ {refused} }} memset(p, 1, 1 << 20); }}\n}}\n"
        )
    };
    for refused in ["abort();", "", "perror(\"malloc\"); return 3;"] {
        let mut spec = spec(&folder.program(&bomb(refused).replace("if (!p) {  }", "")), &[]);
        spec.memory_bytes = 32 << 20;
        let result = invoke(&prepare(&spec), b"");
        assert_eq!(result.outcome, Outcome::OVER_MEMORY, "{refused}: {result:?}");
        assert!(result.said.starts_with("it asked for more than its 32 MiB of memory"), "{result:?}");
    }
}

#[test]
fn several_at_once_do_not_mix_and_leave_nothing_behind() {
    let rounds: usize = std::env::var("TEMPOS_ROUNDS").map_or(1000, |text| text.parse().expect("a number"));
    let folder = Folder::new();
    let file = folder.script("read line; echo \"$line\"; [ \"${line%[0-4]}\" = \"$line\" ] || kill -KILL $$");
    let mut own = spec(&file, &[]);
    own.concurrency = 2;
    let function = prepare(&own);
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let once = |worker: u32, round: usize| {
        let result = invoke_within(&function, worker, format!("{worker} {round}").as_bytes(), LIVENESS_NS);
        if round % 10 < 5 {
            assert_eq!(result.outcome, Outcome::CRASHED, "{result:?}");
        } else {
            assert_eq!(result.text(), format!("{worker} {round}\n"), "{result:?}");
        }
    };
    once(0, 5);
    let before = descriptors();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            scope.spawn(move || (0..rounds / 2).for_each(|round| once(worker, round)));
        }
    });
    // Other tests of this process have theirs open for a while.
    eventually("the descriptors to be as many as before", || descriptors() <= before);
    eventually("no process to be left", || children_of(&file).is_empty());
    function.retire(0);
}
