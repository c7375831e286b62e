//! `meyrin key`: the key that the server signs with.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::command_line::KeyCommand;
use crate::{ConfigSource, data_folder, database, logging};

pub fn run(command: KeyCommand, source: &ConfigSource) -> Result<(), String> {
    let config = source.load().map_err(|error| error.to_string())?;
    logging::start(&config.log);
    let KeyCommand::Rotate = command;
    let path = data_folder::signing_key_path(&config);
    if !path.exists() {
        return Err(format!("there is no key in {}", path.display()));
    }
    data_folder::prepare(&config).map_err(|error| error.to_string())?;
    // Its lock keeps a server from signing with the old key after the time that is written down.
    let _database = database::open(&config).map_err(|error| error.to_string())?;
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    let keys = data_folder::rotate_signing_key(&config, rand::random(), now_ms)
        .map_err(|error| error.to_string())?;
    println!("{}", keys.current().key_id());
    Ok(())
}
