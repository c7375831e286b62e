//! `meyrin db`: the database, by the running server or without one.

use std::path::absolute;

use crate::command_line::DatabaseCommand;
use crate::operator::{Request, connect};
use crate::{ConfigSource, backup, data_folder, logging};

pub fn run(command: DatabaseCommand, source: &ConfigSource) -> Result<(), String> {
    let config = source.load().map_err(|error| error.to_string())?;
    logging::start(&config.log);
    let request = match command {
        DatabaseCommand::Check => Request::DatabaseCheck,
        DatabaseCommand::Stats => Request::DatabaseStats,
        // The server has another current folder.
        DatabaseCommand::Backup { folder } => Request::DatabaseBackup {
            folder: absolute(folder).map_err(|error| error.to_string())?,
        },
        DatabaseCommand::Restore { folder, replace } => {
            data_folder::prepare(&config).map_err(|error| error.to_string())?;
            backup::restore(&config, &folder, replace).map_err(|error| error.to_string())?;
            println!("restored; start the server");
            return Ok(());
        }
    };
    connect::ask(&config, request).map_err(|error| error.to_string())
}
