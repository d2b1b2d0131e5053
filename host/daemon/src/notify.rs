//! What the supervisor of the daemon is told: sd_notify(3).
//!
//! Where NOTIFY_SOCKET is not set nothing happens. A supervisor that cannot be reached is none of the
//! node's worries, so failures are let go.

use std::time::Duration;

use sd_notify::NotifyState;

/// The node takes events, with these words for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The wiring is being read again; `ready` ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The node drains and ends. `limit`: how long that may take at most.
pub fn stopping(limit: Duration) {
    let extension = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(extension)]);
}

/// The node answers.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be told; half of what the supervisor allows. `None`: it does not watch.
pub fn watchdog_pace() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
