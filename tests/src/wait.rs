//! Waiting for something that must come, with a bound.

use std::time::{Duration, Instant};

/// How long anything that must happen may take before a test gives up. Generous on purpose: a test says
/// *that* something happens; how fast is for the benches to say.
pub const LIVENESS: Duration = Duration::from_secs(30);

/// Asks again every few milliseconds until `ask` gives an answer.
///
/// # Panics
/// When there is none within [`LIVENESS`], with `what` in the sentence.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < LIVENESS, "waited {LIVENESS:?} in vain for {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Looks until the answer has been the same for half a second, and gives it: what a node still opens and
/// closes after its start is not what it holds.
///
/// # Panics
/// When it never stands still within [`LIVENESS`], with `what` in the sentence.
pub fn settled<T: PartialEq>(what: &str, mut look: impl FnMut() -> T) -> T {
    const STILL: Duration = Duration::from_millis(500);
    let start = Instant::now();
    let (mut last, mut since) = (look(), Instant::now());
    while since.elapsed() < STILL {
        assert!(start.elapsed() < LIVENESS, "waited {LIVENESS:?} in vain for {what} to stand still");
        std::thread::sleep(Duration::from_millis(20));
        let now = look();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}
