//! `meyrin federation`: other servers, by the running server or without one.

use crate::command_line::FederationCommand;
use crate::operator::{Request, connect};
use crate::{ConfigSource, logging};

pub fn run(command: FederationCommand, source: &ConfigSource) -> Result<(), String> {
    let config = source.load().map_err(|error| error.to_string())?;
    logging::start(&config.log);
    let request = match command {
        FederationCommand::List { json } => Request::FederationList { json },
        FederationCommand::Show { server, json } => Request::FederationShow { server, json },
        FederationCommand::Retry { server } => Request::FederationRetry { server },
    };
    connect::ask(&config, request).map_err(|error| error.to_string())
}
