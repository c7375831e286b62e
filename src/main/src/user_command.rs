//! `meyrin user`: the accounts, by the running server or without one.

use std::io::{self, IsTerminal};

use crate::ConfigSource;
use crate::command_line::UserCommand;
use crate::logging;
use crate::operator::{Request, connect};

pub fn run(command: UserCommand, source: &ConfigSource) -> Result<(), String> {
    let config = source.load().map_err(|error| error.to_string())?;
    logging::start(&config.log);
    let request = match command {
        UserCommand::Create {
            name,
            admin,
            display_name,
            no_password,
        } => {
            let password = if no_password {
                None
            } else {
                Some(ask_password(&name)?)
            };
            Request::UserCreate {
                name,
                password,
                admin,
                display_name,
            }
        }
        UserCommand::ResetPassword { name, keep_devices } => {
            let password = ask_password(&name)?;
            Request::UserResetPassword {
                name,
                password,
                keep_devices,
            }
        }
        UserCommand::List { deactivated } => Request::UserList { deactivated },
        UserCommand::Deactivate { name, erase } => Request::UserDeactivate { name, erase },
    };
    connect::ask(&config, request).map_err(|error| error.to_string())
}

/// Twice from the terminal, or once as a line from standard input.
fn ask_password(name: &str) -> Result<String, String> {
    let failed = |error: io::Error| format!("cannot read the password: {error}");
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(failed)?;
        let password = line.strip_suffix('\n').unwrap_or(&line);
        return Ok(password.strip_suffix('\r').unwrap_or(password).to_owned());
    }
    let first = rpassword::prompt_password(format!("New password for {name}: ")).map_err(failed)?;
    let second = rpassword::prompt_password("Again: ").map_err(failed)?;
    if first != second {
        return Err("the passwords differ".to_owned());
    }
    Ok(first)
}
