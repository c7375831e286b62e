//! `meyrin job`: work that goes on behind the requests, by the running server or without one.

use crate::command_line::JobCommand;
use crate::operator::{Request, connect};
use crate::{ConfigSource, logging};

pub fn run(command: JobCommand, source: &ConfigSource) -> Result<(), String> {
    let config = source.load().map_err(|error| error.to_string())?;
    logging::start(&config.log);
    let request = match command {
        JobCommand::List => Request::JobList,
    };
    connect::ask(&config, request).map_err(|error| error.to_string())
}
