//! A clock under watch: asks, listens and judges, whenever it is polled.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::client::Client;
use crate::hardware::HardwareClock;
use crate::message::{Data, PortDataSet, PortState, Question, TimeProperties, TimeStatus};
use crate::tai::tai_offset_s;
use crate::watch::{Bounds, Cause, Reading, Role, Watch};

/// Where ptp4l listens unless it is told otherwise.
pub const PTP4L_SOCKET: &str = "/var/run/ptp4l";

/// Datagrams that one poll reads at most: a flood of garbage ends with it.
const READ_MAX: usize = 64;
/// What is asked in each round.
const QUESTIONS: [Question; 3] = [Question::PortDataSet, Question::TimeStatusNp, Question::TimeProperties];
/// majorSdoId of IEEE 802.1AS, and of all others.
const SDOS: [u8; 2] = [1, 0];

/// What to watch, and by which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockConfig {
    /// ptp4l's socket.
    pub socket: PathBuf,
    /// Where this side's socket lies.
    pub folder: PathBuf,
    /// The domain.
    pub domain: u8,
    /// The port's number, from 1 on.
    pub port: u16,
    /// The clock of the card that ptp4l's stamps come from (`/dev/ptpN`); none where they are the kernel's.
    pub hardware: Option<PathBuf>,
    /// The bounds.
    pub bounds: Bounds,
    /// Nanoseconds between two rounds of questions.
    pub pace_ns: u64,
}

impl ClockConfig {
    /// The usual: domain 0, port 1, either role, 1 µs, a hold of 2 s, silence of 1 s, ten rounds a second.
    pub fn new(socket: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        let bounds = Bounds {
            role: Role::Any,
            offset_max_ns: 1000,
            hold_ns: 2_000_000_000,
            silence_max_ns: 1_000_000_000,
        };
        ClockConfig {
            socket: socket.into(),
            folder: folder.into(),
            domain: 0,
            port: 1,
            hardware: None,
            bounds,
            pace_ns: 100_000_000,
        }
    }
}

/// What a clock is worth at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Whether gates and launch times may rest on it.
    pub granted: bool,
    /// Whether everything is in its bounds; where it is not granted all the same, the hold time is not over.
    pub in_bounds: bool,
    /// Why it is not granted; none where it is.
    pub cause: Option<Cause>,
    /// One sentence: how good it is, or what is wrong with it.
    pub reason: String,
    /// Nanoseconds from the grandmaster as last read; positive: ahead of it.
    pub offset_ns: Option<i64>,
    /// The port's state as last read.
    pub port: Option<PortState>,
    /// Seconds that the kernel's TAI is ahead of UTC, where that could be read.
    pub tai_offset_s: Option<i32>,
    /// Datagrams that were no answers, since the watch began.
    pub garbage: u64,
}

/// One round of questions, and what came back so far.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    sequence: u16,
    begun_ns: Option<u64>,
    port: Option<PortDataSet>,
    status: Option<TimeStatus>,
    time: Option<TimeProperties>,
}

/// A clock under watch.
#[derive(Debug)]
pub struct Clock {
    config: ClockConfig,
    client: Client,
    watch: Watch,
    round: Round,
    /// Which of [`SDOS`] this ptp4l answers to, where that is known.
    sdo: Option<u8>,
    last: Option<Reading>,
    hardware: Option<HardwareClock>,
    why: Option<String>,
    garbage: u64,
}

impl Clock {
    /// Begins to watch; ptp4l need not run.
    ///
    /// # Errors
    /// What the system says of the folder for this side's socket.
    pub fn new(config: ClockConfig) -> io::Result<Clock> {
        let client = Client::new(&config.socket, &config.folder)?;
        let watch = Watch::new(config.bounds, monotonic_ns());
        let round = Round::default();
        Ok(Clock {
            config,
            client,
            watch,
            round,
            sdo: None,
            last: None,
            hardware: None,
            why: None,
            garbage: 0,
        })
    }

    /// Readable when [`Clock::poll`] has something to read.
    pub fn descriptor(&self) -> RawFd {
        self.client.descriptor()
    }

    /// Asks where it is time to, reads what has come, and says what the clock is worth. It waits for nothing; ordinary
    /// threads call it as often as they want to know, or more.
    pub fn poll(&mut self) -> ClockState {
        let now_ns = monotonic_ns();
        self.listen(now_ns);
        if self.round.begun_ns.is_none_or(|begun| now_ns.saturating_sub(begun) >= self.config.pace_ns) {
            self.ask(now_ns);
            // Where the answer comes at once, it need not wait for the next call.
            self.listen(now_ns);
        }
        self.watch.miss(now_ns, self.why.as_deref());
        let verdict = self.watch.verdict();
        ClockState {
            granted: verdict.granted,
            in_bounds: verdict.in_bounds,
            cause: verdict.cause,
            reason: verdict.reason,
            offset_ns: self.last.map(|reading| reading.offset_ns),
            port: self.last.map(|reading| reading.state),
            tai_offset_s: self.last.and_then(|reading| reading.tai_offset_s),
            garbage: self.garbage,
        }
    }

    fn ask(&mut self, now_ns: u64) {
        // Another ptp4l, started at its place, may answer to the other one.
        let Round { begun_ns, port, status, .. } = self.round;
        if status.is_none() && begun_ns.is_some() {
            self.sdo = None;
        }
        let no_port = status.is_some() && port.is_none();
        let sequence = self.round.sequence.wrapping_add(1);
        self.round = Round { sequence, begun_ns: Some(now_ns), ..Round::default() };
        let sdos = SDOS.into_iter().filter(|sdo| self.sdo.is_none_or(|known| known == *sdo));
        let asked = sdos
            .flat_map(|sdo| QUESTIONS.into_iter().map(move |what| (what, sdo)))
            .try_for_each(|(what, sdo)| self.client.ask(what, sequence, self.config.domain, sdo));
        self.why = match asked {
            Ok(()) if no_port => Some(format!("it has no port {}", self.config.port)),
            Ok(()) => None,
            Err(error) => Some(format!("{}: {error}", self.config.socket.display())),
        };
    }

    fn listen(&mut self, now_ns: u64) {
        for _ in 0..READ_MAX {
            let Some(received) = self.client.next() else { return };
            let Some(answer) = received else {
                self.garbage = self.garbage.saturating_add(1);
                continue;
            };
            if answer.sequence != self.round.sequence || answer.domain != self.config.domain {
                continue;
            }
            match answer.data {
                Data::Port(port) if port.port == self.config.port => self.round.port = Some(port),
                Data::Status(status) => self.round.status = Some(status),
                Data::Time(time) => self.round.time = Some(time),
                _ => continue,
            }
            self.sdo = Some(answer.sdo);
            self.judge(now_ns);
        }
    }

    /// Once in each round, when all of it is there.
    fn judge(&mut self, now_ns: u64) {
        let Round { port: Some(port), status: Some(status), time: Some(time), .. } = self.round else {
            return;
        };
        let hardware_ahead_ns = match self.hardware_ahead_ns() {
            Ok(ahead) => ahead,
            Err(sentence) => return self.watch.fail(now_ns, sentence),
        };
        let reading = Reading {
            hardware_ahead_ns,
            port: port.port,
            state: port.state,
            offset_ns: status.offset_ns,
            ingress_ns: status.ingress_ns,
            grandmaster: status.grandmaster,
            utc_offset_s: time.utc_offset_valid.then_some(time.utc_offset_s.into()),
            tai_offset_s: tai_offset_s().ok(),
        };
        self.last = Some(reading);
        self.watch.see(now_ns, &reading);
    }
}

impl Clock {
    fn hardware_ahead_ns(&mut self) -> Result<Option<i64>, String> {
        let Some(path) = &self.config.hardware else { return Ok(None) };
        let failed = |error| format!("the card's clock {} cannot be read: {error}", path.display());
        let clock = match self.hardware.take() {
            Some(clock) => clock,
            None => HardwareClock::open(path).map_err(failed)?,
        };
        // One that cannot be read is opened again: its card may have gone and come back.
        let ahead_ns = clock.ahead_of_tai_ns().map_err(failed)?;
        self.hardware = Some(clock);
        Ok(Some(ahead_ns))
    }
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is live; CLOCK_MONOTONIC is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
