//! What systemd is told (sd_notify). Without systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Listening and ready for requests; also the end of a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload has begun. systemd wants the moment with it, to tell this reload's end from an earlier one's.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// The end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Still alive.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear [`alive`], if at all: half of what it waits at most.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|longest| longest / 2)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
