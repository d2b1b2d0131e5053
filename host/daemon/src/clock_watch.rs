//! Watches the machine's clock through ptp4l, where the node file says so, and tells when it is lost and when it counts
//! again: in the log, among the node's degradations, and to hooks (`clock-lost`).
//!
//! It runs on an ordinary thread of its own. A clock that comes in right after the start was never lost: until it has
//! had the time to, that is a degradation only.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tempos_abi::host::LogLevel;
use tempos_ptp::{Bounds, Clock, ClockConfig, ClockState, PTP4L_SOCKET, Role};

use crate::host_node::HostNode;
use crate::log::Log;

/// The log's name for this room, and that of the degradation.
const TARGET: &str = "clock";
/// How often ptp4l is asked.
const PACE: Duration = Duration::from_millis(100);

/// `[clock]`.
#[derive(Clone, Debug)]
pub struct ClockSettings {
    /// Whether it is watched.
    pub watch: bool,
    /// What is asked, and by which bounds the answers are judged; the folder is the run folder.
    pub config: ClockConfig,
}

impl Default for ClockSettings {
    fn default() -> Self {
        ClockSettings { watch: false, config: ClockConfig::new(PTP4L_SOCKET, "") }
    }
}

/// The words of `[clock] role`.
pub const ROLES: &[&str] = &["any", "follower", "leader"];

/// The role of one of [`ROLES`].
pub fn role(word: &str) -> Role {
    match word {
        "follower" => Role::Follower,
        "leader" => Role::Leader,
        _ => Role::Any,
    }
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct ClockWatch {
    _until: SyncSender<()>,
}

impl ClockWatch {
    /// Begins to watch; none where the node file does not want it.
    ///
    /// # Errors
    /// One sentence: why it cannot be watched. Nothing is known of the clock then.
    pub fn start(
        settings: &ClockSettings,
        run: &Path,
        node: &Arc<HostNode>,
        log: Log,
    ) -> Result<Option<ClockWatch>, String> {
        if !settings.watch {
            return Ok(None);
        }
        let config = ClockConfig {
            folder: run.to_owned(),
            pace_ns: PACE.as_nanos() as u64,
            ..settings.config.clone()
        };
        let Bounds { hold_ns, silence_max_ns, .. } = config.bounds;
        let settled = Instant::now() + Duration::from_nanos(hold_ns.saturating_add(silence_max_ns));
        let name = config.socket.display().to_string();
        let failed = |error: std::io::Error| format!("the clock cannot be watched: {error}");
        let clock = Clock::new(config).map_err(failed)?;
        let (until, ends) = sync_channel(0);
        let watcher = Watcher { clock, node: Arc::downgrade(node), log, name, settled, told: None };
        let thread = std::thread::Builder::new().name("tempos-clock".into()).stack_size(256 << 10);
        thread.spawn(move || watcher.run(&ends)).map_err(failed)?;
        Ok(Some(ClockWatch { _until: until }))
    }
}

struct Watcher {
    clock: Clock,
    node: Weak<HostNode>,
    log: Log,
    /// What the clock is called: ptp4l's socket.
    name: String,
    /// From here on a clock that is not granted is lost.
    settled: Instant,
    /// Whether it was granted when it was told last.
    told: Option<bool>,
}

impl Watcher {
    fn run(mut self, ends: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(PACE) {
            let Some(node) = self.node.upgrade() else { return };
            let state = self.clock.poll();
            self.tell(&node, &state);
        }
    }

    fn tell(&mut self, node: &HostNode, state: &ClockState) {
        let sentence = (!state.granted).then(|| format!("clock: {}", state.reason));
        node.engine().degrade(TARGET, sentence);
        let is_lost = !state.in_bounds && Instant::now() >= self.settled;
        if self.told != Some(state.granted) && (state.granted || is_lost) {
            self.told = Some(state.granted);
            let (level, words) = match state.granted {
                true => (LogLevel::INFO, "the clock counts"),
                false => (LogLevel::WARNING, "the clock is lost"),
            };
            self.log.say(level, TARGET, &format!("{words}: {}", state.reason));
            node.tell_clock(&self.name, state.granted, &state.reason);
        }
    }
}
