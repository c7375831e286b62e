//! The log: on standard error, as text or as JSON, at levels that a reload can change.

use std::io::{self, IsTerminal};

use config::{Level, Log, LogFilter, LogFormat};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// Changes the levels of the running log.
pub struct LevelHandle {
    handle: reload::Handle<Targets, Registry>,
}

impl LevelHandle {
    pub fn set(&self, filter: &LogFilter) {
        // Fails only when the log is gone, and then there is nothing to change.
        let _ = self.handle.reload(targets(filter));
    }
}

/// Starts the log of the process. Later calls have no effect on where it goes.
pub fn start(log: &Log) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(targets(&log.level));
    let lines = match log.format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .boxed(),
    };
    // Fails only when a log is there already, which then goes on.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
    LevelHandle { handle }
}

fn targets(filter: &LogFilter) -> Targets {
    let mut targets = Targets::new().with_default(level(filter.level));
    for (target, target_level) in &filter.targets {
        targets = targets.with_target(target, level(*target_level));
    }
    targets
}

fn level(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
