//! Mode `warm`, with workers in C.

use super::*;

/// A worker that does as the first letter of the payload says.
const SOURCE: &str = r#"
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int get(void *to, size_t count)
{
    for (size_t at = 0; at < count; ) {
        ssize_t got = read(0, (char *)to + at, count - at);
        if (got <= 0) return 0;
        at += got;
    }
    return 1;
}
static void put(const void *from, size_t count)
{
    for (size_t at = 0; at < count; ) {
        ssize_t sent = write(1, (const char *)from + at, count - at);
        if (sent <= 0) exit(3);
        at += sent;
    }
}
static void answer(uint64_t call, uint32_t status, const char *said, const void *payload, uint32_t bytes)
{
    struct { uint32_t length, status; uint64_t call; uint32_t said, bytes; } head =
        { 20 + strlen(said) + bytes, status, call, strlen(said), bytes };
    put(&head, sizeof head);
    put(said, strlen(said));
    put(payload, bytes);
}
int main(int argc, char **argv)
{
    struct { uint32_t length; uint16_t topic, attributes; uint64_t call, id, source, deadline;
             uint8_t level, none[3]; uint32_t payload; } head;
    static char rest[8 << 20], more[100000];
    if (argc > 1 && strcmp(argv[1], "dumb") == 0) for (;;) pause();
    if (argc > 1 && strcmp(argv[1], "loud") == 0) { puts("I am no worker, and I say so loudly."); fflush(stdout); }
    if (argc > 1 && strcmp(argv[1], "dead") == 0) { fprintf(stderr, "no camera\n"); return 4; }
    answer(0, 0, "", "", 0);
    while (get(&head, sizeof head) && get(rest, head.topic)) {
        char what;
        memset(more, 'm', sizeof more);
        if (!get(rest, head.attributes) || !get(rest, 1)) return 5;
        what = rest[0];
        if (what == 'n') for (;;) pause();
        if (!get(rest + 1, head.payload - 1)) return 5;
        switch (what) {
        case 'p': snprintf(more, sizeof more, "%d", getpid()); answer(head.call, 0, "", more, strlen(more)); break;
        case 'f': answer(head.call, 7, "no such bearing", "", 0); break;
        case '-': answer(head.call, 256, "", "", 0); break;
        case 'h': put(&head, 10); return 0;
        case 'H': put(&head, 10); for (;;) pause();
        case 'x': return 0;
        case 'X': fprintf(stderr, "giving up\n"); return 9;
        case 's': raise(SIGSEGV); break;
        case 'w': answer(head.call + 1, 0, "", "", 0); break;
        case 'g': memset(more, 'g', 100); put(more, 100); break;
        case '2': memcpy(more, (uint64_t[]){ (uint64_t)20 << 0, head.call, 0 }, 24); put(more, 30); break;
        case 'a': answer(head.call, 0, "", "first", 5); usleep(20000); answer(head.call, 0, "", "again", 5); break;
        case 'i': answer(head.call, 0, "", "idle", 4); return 0;
        case 't': answer(head.call, 0, "", more, 5000); break;
        case 'c': close(0); close(1); for (;;) pause();
        case 'l': for (;;) { }
        case 'T': signal(SIGTERM, SIG_IGN); for (;;) { }
        case 'E': for (int i = 0; i < 1000; i++) fprintf(stderr, "%.1000s\n", more); answer(head.call, 0, "", "said", 4); break;
        case 'b': for (;;) { char *p = malloc(1 << 20); memset(p, 1, 1 << 20); }
        default: answer(head.call, 0, "", rest, head.payload);
        }
    }
    return 0;
}
"#;

const SHORT_NS: u64 = 150_000_000;

fn worker(folder: &Folder) -> PathBuf {
    folder.program(SOURCE)
}

fn warm(file: &Path, change: impl FnOnce(&mut FunctionSpec)) -> SpawnFunction {
    let mut spec = spec(file, &[("mode", text("warm"))]);
    change(&mut spec);
    prepare(&spec)
}

/// The worker that answers.
fn pid(function: &SpawnFunction) -> i32 {
    let result = invoke(function, b"pid");
    result.text().parse().unwrap_or_else(|_| panic!("{result:?}"))
}

#[test]
fn a_worker_answers_event_after_event_of_every_size() {
    let folder = Folder::new();
    let function = warm(&worker(&folder), |_| {});
    let first = pid(&function);
    for length in [1, 2, 100, 4072, 4096] {
        let payload = vec![b'e'; length];
        let result = invoke(&function, &payload);
        assert_eq!((result.outcome, result.output), (Outcome::DONE, Some(payload)));
    }
    assert_eq!(invoke(&function, b"-").output, None);
    // More than the pipe holds, and more than the output may: it goes on all the same.
    let result = invoke(&function, &vec![b'e'; 5 << 20]);
    assert_eq!((result.outcome, result.output), (Outcome::OUTPUT_TOO_LARGE, None));
    assert_eq!(invoke(&function, b"too large").outcome, Outcome::OUTPUT_TOO_LARGE);
    let failed = invoke(&function, b"fail");
    assert_eq!((failed.outcome, &failed.said[..]), (Outcome::failed(7), "no such bearing"));
    assert_eq!(invoke(&function, b"Errors, a megabyte of them").text(), "said");
    assert_eq!(pid(&function), first, "all of that was one worker");
    function.retire(now_ns() + LIVENESS_NS);
    assert!(!lives(first));
}

#[test]
fn each_end_of_a_worker_is_told_as_what_it_was_and_another_takes_its_place() {
    let folder = Folder::new();
    let file = worker(&folder);
    let function = warm(&file, |spec| spec.concurrency = 1);
    let stopped = "it was stopped at its deadline";
    for (letter, outcome, said) in [
        ("h", Outcome::BAD_OUTPUT, "it ended after half an answer"),
        ("H", Outcome::KILLED, stopped),
        ("x", Outcome::CRASHED, "it ended in the middle of an event"),
        ("X", Outcome::CRASHED, "it ended with code 9: giving up"),
        ("s", Outcome::CRASHED, "it was ended by signal 11 (SIGSEGV)"),
        ("w", Outcome::BAD_OUTPUT, "it answered another call than the one it was given"),
        ("g", Outcome::BAD_OUTPUT, "the length of its answer is not that of its parts"),
        ("2", Outcome::BAD_OUTPUT, "it wrote more than its answer"),
        ("c", Outcome::BAD_OUTPUT, "it closed its output in the middle of an event, but goes on"),
        ("l", Outcome::KILLED, stopped),
        ("T", Outcome::KILLED, stopped),
        ("n", Outcome::KILLED, stopped),
    ] {
        let before = pid(&function);
        // More than a pipe holds, so that one who does not read holds up the writer.
        let payload = [letter.as_bytes(), &vec![b' '; 200_000]].concat();
        let within = if outcome == Outcome::KILLED { SHORT_NS } else { LIVENESS_NS };
        let result = invoke_within(&function, 0, &payload, within);
        assert_eq!((result.outcome, &result.said[..]), (outcome, said), "{letter}");
        assert!(!lives(before), "{letter}: it is gone");
        assert_ne!(pid(&function), before, "{letter}");
    }
    function.retire(0);
    drop(function);
    eventually("nothing to be left", || children_of(&file).is_empty());
}

#[test]
fn a_worker_that_ends_or_speaks_between_events_costs_none() {
    let folder = Folder::new();
    let function = warm(&worker(&folder), |spec| spec.concurrency = 1);
    for (letter, answer) in [(&b"i"[..], "idle"), (b"a", "first")] {
        for _ in 0..5 {
            assert_eq!(invoke(&function, letter).text(), answer);
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(invoke(&function, b"e").text(), "e");
        }
    }
}

#[test]
fn a_worker_that_wants_too_much_memory_is_told_from_one_that_crashes() {
    let folder = Folder::new();
    let function = warm(&worker(&folder), |spec| spec.memory_bytes = 64 << 20);
    assert_eq!(invoke(&function, b"s").outcome, Outcome::CRASHED);
    assert_eq!(invoke(&function, b"bomb").outcome, Outcome::OVER_MEMORY);
    assert_eq!(invoke(&function, b"e").outcome, Outcome::DONE);
}

#[test]
fn workers_come_as_they_are_needed_up_to_the_most_and_go_when_they_are_idle() {
    let folder = Folder::new();
    let file = worker(&folder);
    let instances = Instances { max: 2, recycle_after: 0, idle_ns: 50_000_000 };
    let function = warm(&file, |spec| {
        spec.warm = 0;
        spec.reserved = FunctionSpec::reserved_for(Scheduling::default(), instances);
    });
    let busy = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|worker| {
                scope.spawn({
                    let function = &function;
                    move || invoke_within(function, worker, b"l", SHORT_NS)
                })
            })
            .collect();
        let mut most = 0;
        while calls.iter().any(|call| !call.is_finished()) {
            most = most.max(children_of(&file).len());
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(calls.into_iter().all(|call| call.join().expect("no panic").outcome == Outcome::KILLED));
        most
    });
    assert_eq!(busy, 2, "no more than two at once, and no fewer");
    eventually("all idle workers to go", || children_of(&file).is_empty());
    assert_eq!(invoke(&function, b"e").text(), "e", "and one to come back");
    assert_eq!(function.warm(2), 2);
    assert_eq!(function.warm(0), 2);
    eventually("those to go again", || children_of(&file).is_empty());
}

#[test]
fn a_worker_is_replaced_after_so_many_events() {
    let folder = Folder::new();
    let instances = Instances { max: 1, recycle_after: 3, idle_ns: 0 };
    let function = warm(&worker(&folder), |spec| {
        spec.reserved = FunctionSpec::reserved_for(Scheduling::default(), instances);
    });
    let pids: Vec<i32> = (0..9).map(|_| pid(&function)).collect();
    for three in pids.chunks(3) {
        assert!(three.iter().all(|pid| *pid == three[0]), "{pids:?}");
    }
    assert!(pids[0] != pids[3] && pids[3] != pids[6], "{pids:?}");
}

#[test]
fn what_is_no_worker_is_refused_when_it_is_prepared() {
    let folder = Folder::new();
    let file = worker(&folder);
    for (argument, said) in [
        ("dead", "it ended with code 4 before it was ready: no camera"),
        ("loud", "the length of its answer is not that of its parts"),
        ("dumb", "it did not say in time that it is ready"),
    ] {
        let options = [
            ("mode", text("warm")),
            ("args", texts(&[argument])),
            ("start_within", OptionValue::Integer(300_000_000)),
        ];
        let error = refusal(&spec(&file, &options));
        let expected = format!("function of workflow \"detect\": {} cannot be used: {said}", file.display());
        assert_eq!((error.code, &error.message[..]), (PluginError::BAD_FUNCTION, &expected[..]));
        eventually("nothing to be left", || children_of(&file).is_empty());
    }
}

#[test]
fn workers_that_keep_dying_are_started_ever_more_slowly() {
    let folder = Folder::new();
    let mut own = spec(&worker(&folder), &[("mode", text("warm"))]);
    own.concurrency = 1;
    let function = prepare(&own);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(800) {
        let result = invoke_within(&function, 0, b"x", 50_000_000);
        assert!(result.outcome != Outcome::DONE, "{result:?}");
    }
    let started = own.counters.started.get();
    assert!((3..=9).contains(&started), "{started} were started in 800 ms");
    assert_eq!(invoke(&function, b"e").text(), "e", "one that does well is there again");
}

#[test]
fn many_rounds_leave_nothing_behind() {
    let rounds: usize = std::env::var("TEMPOS_ROUNDS").map_or(1000, |text| text.parse().expect("a number"));
    let folder = Folder::new();
    let file = worker(&folder);
    let function = warm(&file, |spec| spec.concurrency = 2);
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let first = function.warm(2);
    let before = descriptors();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let function = &function;
            scope.spawn(move || {
                for round in 0..rounds / 2 {
                    let letter = [&b"e"[..], b"e", b"s", b"e", b"h"][round % 5];
                    let result = invoke_within(function, worker, letter, LIVENESS_NS);
                    assert_eq!(result.outcome == Outcome::DONE, letter == b"e", "{result:?}");
                }
            });
        }
    });
    assert_eq!(function.warm(2), first);
    eventually("the descriptors to be as many as before", || descriptors() <= before);
    eventually("two to be left", || children_of(&file).len() == 2);
    function.retire(0);
    eventually("no process to be left", || children_of(&file).is_empty());
}
