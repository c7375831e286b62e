//! `meyrin serve`: the life of a server process, from configuration to exit.
//!
//! What is served is [`Server`]'s; here is when it starts, reloads and stops, and what the supervisor and
//! the log hear of it.

use std::io;
use std::time::Duration;

use config::{Config, ConfigError};
use tokio::runtime::Runtime;
use tokio::time::{Interval, MissedTickBehavior};

use crate::ConfigSource;
use crate::logging::{self, LevelHandle};
use crate::server::{Server, ServerError};
use crate::signals::{Signal, Signals};
use crate::{open_files, supervisor};

/// How long work on threads may go on after everything was told to end.
const LAST_WORK_TIMEOUT: Duration = Duration::from_secs(2);

/// Files open at once besides connections and the database's: media, logs.
const OTHER_FILES: u64 = 512;

/// Connections to other servers.
const OUTGOING: u64 = node::MOST_OUTGOING as u64;

/// Why the server did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot start threads: {0}")]
    Runtime(io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl ServeError {
    /// Whether the log has it already.
    pub fn is_logged(&self) -> bool {
        !matches!(self, ServeError::Config(_) | ServeError::Runtime(_))
    }
}

/// Runs the server until it is told to stop.
pub fn run(source: &ConfigSource) -> Result<(), ServeError> {
    let config = source.load()?;
    let level = logging::start(&config.log);
    let runtime = build_runtime(&config).map_err(ServeError::Runtime)?;
    let ended = runtime.block_on(live(config, source, &level));
    runtime.shutdown_timeout(LAST_WORK_TIMEOUT);
    if let Err(error) = &ended {
        tracing::error!(%error, "ended by a failure");
    }
    ended
}

/// `config` with `http.max_connections` lowered to what the limit of open files leaves beside the database's and others: a
/// connection too many would take the file that a write needs.
fn fitting(config: &Config, limit: Option<u64>) -> Config {
    let mut config = config.clone();
    let Some(limit) = limit else { return config };
    let others = u64::from(config.storage.max_open_files) + OTHER_FILES + OUTGOING;
    let left = limit.saturating_sub(others).max(OTHER_FILES);
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    if left < config.http.max_connections {
        tracing::info!(
            limit,
            connections = left,
            "http.max_connections is lowered to fit the limit of open files (LimitNOFILE= in a unit)"
        );
        config.http.max_connections = left;
    }
    config
}

fn build_runtime(config: &Config) -> io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("io");
    if let Some(threads) = config.runtime.io_threads {
        builder.worker_threads(threads as usize);
    }
    builder.build()
}

async fn live(
    config: Config,
    source: &ConfigSource,
    level: &LevelHandle,
) -> Result<(), ServeError> {
    // Before anything else, so that a signal during the start does not cut it off half-way.
    let mut signals = Signals::install().map_err(ServeError::Signals)?;
    let mut server = Server::start(&fitting(&config, open_files::raise_limit()))?;
    let mut configs = Configs {
        latest: config.clone(),
        started: config,
    };
    let mut watchdog = watchdog();
    supervisor::ready();
    tracing::info!(server_name = %configs.started.server_name, version = env!("CARGO_PKG_VERSION"), "ready");
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => {
                    supervisor::reloading();
                    reload(source, &mut configs, level, &server);
                    supervisor::ready();
                }
            },
            () = next_beat(&mut watchdog) => supervisor::alive(),
            error = server.failure() => return Err(error.into()),
        }
    }
    supervisor::stopping();
    tracing::info!("stopping: no new connections, requests under way are finished");
    tokio::select! {
        () = server.stop() => tracing::info!("stopped"),
        () = second_stop(&mut signals) => tracing::warn!("stopped at once, by a second signal"),
    }
    Ok(())
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

/// Beats while the runtime runs: a server whose threads are all stuck misses them and is restarted.
fn watchdog() -> Option<Interval> {
    let mut interval = tokio::time::interval(supervisor::watchdog_period()?);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

async fn next_beat(watchdog: &mut Option<Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// What the server was started with, and what it was last told.
struct Configs {
    started: Config,
    latest: Config,
}

fn reload(source: &ConfigSource, configs: &mut Configs, level: &LevelHandle, server: &Server) {
    let new = match source.load() {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "reload refused, nothing changed");
            return;
        }
    };
    level.set(&new.log.level);
    server.reload(&new);
    for change in configs.latest.changes(&new) {
        if change.live {
            tracing::info!(key = change.key, "changed by reload");
        }
    }
    for change in configs.started.changes(&new) {
        if !change.live {
            tracing::warn!(
                key = change.key,
                "changed, but takes effect only after a restart"
            );
        }
    }
    tracing::info!("reloaded");
    configs.latest = new;
}
