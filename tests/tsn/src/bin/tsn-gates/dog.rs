//! The watchdog of `tempos-gates`, alone: it hears no link and no discipline, and sees only what leaves.

use std::time::{Duration, Instant};

use tempos_gates::{Watchdog, schedule_of};
use tempos_qdisc::{Link, Options, read};
use tempos_tsn_rig::say;

/// Looks for some seconds; `false`: a gate was silent.
pub fn run(link: &Link, time: Duration) -> Result<bool, String> {
    let root = read(link).map_err(|refusal| refusal.to_string())?.ok_or("there is no root")?;
    let Options::Taprio(taprio) = &root.options else { return Err("the root is no taprio".into()) };
    let schedule = schedule_of(taprio, 10_000, 1514);
    let mut dog = Watchdog::new(link, &schedule, root.handle, &[]).map_err(|error| error.to_string())?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        let silent = dog.silent(link, Instant::now());
        if !silent.is_empty() {
            say(format_args!("silent: {silent:?}"));
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    say("nothing was silent");
    Ok(true)
}
