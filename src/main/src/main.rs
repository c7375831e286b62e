//! The binary `meyrin`: command line, wiring, logging, signals.
//!
//! What a command does is in its own file; here it is only chosen. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod backup;
mod command_line;
mod config_command;
mod data_folder;
mod database;
mod database_command;
mod federation_command;
mod federation_metrics;
mod job_command;
mod key_command;
mod logging;
mod open_files;
mod operator;
mod room_command;
mod serve;
mod server;
mod signals;
mod supervisor;
mod user_command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use config::{Config, ConfigError};

use command_line::{Command, CommandLine};

// Unprefixed, so that RocksDB's allocations are jemalloc's too. Its options are set in .cargo/config.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where the configuration comes from; it is read again on reload.
struct ConfigSource {
    /// The file that was named, if one was.
    path: Option<PathBuf>,
}

impl ConfigSource {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.path.as_deref(), std::env::vars_os())
    }
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let source = ConfigSource {
        path: command_line.config,
    };
    let done = match command_line.command {
        Command::Serve => match serve::run(&source) {
            Err(error) if error.is_logged() => return ExitCode::FAILURE,
            ended => ended.map_err(|error| error.to_string()),
        },
        Command::Config { command } => config_command::run(command, &source),
        Command::User { command } => user_command::run(command, &source),
        Command::Db { command } => database_command::run(command, &source),
        Command::Room { command } => room_command::run(command, &source),
        Command::Job { command } => job_command::run(command, &source),
        Command::Federation { command } => federation_command::run(command, &source),
        Command::Key { command } => key_command::run(command, &source),
        Command::Version => {
            println!("meyrin {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
