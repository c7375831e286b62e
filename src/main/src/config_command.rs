//! `meyrin config`: the configuration without a server.

use std::fs::File;

use crate::ConfigSource;
use crate::command_line::ConfigCommand;

pub fn run(command: ConfigCommand, source: &ConfigSource) -> Result<(), String> {
    match command {
        ConfigCommand::Check => check(source),
        ConfigCommand::Example => {
            print!("{}", config::example());
            Ok(())
        }
    }
}

/// Also tries the files that the configuration names: a server would fail on them only later.
fn check(source: &ConfigSource) -> Result<(), String> {
    let config = source.load().map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    for (key, path) in config.named_files() {
        if let Err(error) = File::open(path) {
            problems.push(format!("`{key}`: cannot read {}: {error}", path.display()));
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    println!("the configuration of {} is good", config.server_name);
    Ok(())
}
