//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what has to come. Much longer than it ever takes, so that a busy
/// machine fails no test.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The pause between two looks at the condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks at a condition until it gives a value.
///
/// # Panics
/// When [`LIMIT`] has passed; `what` says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}");
        thread::sleep(PAUSE);
    }
}
