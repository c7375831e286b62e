//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A Matrix homeserver.
#[derive(Debug, Parser)]
#[command(
    name = "meyrin",
    version,
    propagate_version = true,
    subcommand_required = true
)]
pub struct CommandLine {
    /// The configuration file [default: meyrin.toml, then /etc/meyrin/meyrin.toml]
    #[arg(long, short, global = true, env = "MEYRIN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server in the foreground
    Serve,
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look after the accounts; a running server is asked, the data of a stopped one are opened
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Look after the database
    Db {
        #[command(subcommand)]
        command: DatabaseCommand,
    },
    /// Look at work that goes on behind the requests
    Job {
        #[command(subcommand)]
        command: JobCommand,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account; its password is asked for, or read as a line from standard input
    Create {
        /// alice, or @alice:example.org
        name: String,
        /// May use the administration API
        #[arg(long)]
        admin: bool,
        /// Shown to others [default: the name]
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// Nobody can log in by password
        #[arg(long)]
        no_password: bool,
    },
    /// Give an account another password, and log its devices out
    ResetPassword {
        /// alice, or @alice:example.org
        name: String,
        /// Leave its devices logged in
        #[arg(long)]
        keep_devices: bool,
    },
    /// Print a line for each account: user id, when it was made (seconds since 1970), what is special
    List {
        /// Also those that were closed
        #[arg(long)]
        deactivated: bool,
    },
    /// Close an account for good; its name stays taken
    Deactivate {
        /// alice, or @alice:example.org
        name: String,
        /// Those who join its rooms later are not shown what it wrote
        #[arg(long)]
        erase: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Walk over the whole database and prove that it is undamaged
    Check,
    /// Print the sizes of the database
    Stats,
    /// Write a copy of the database and the signing key into a new folder, also while the server runs
    Backup {
        /// The folder, which must not be there yet; a running server must be able to write there
        folder: PathBuf,
    },
    /// Put a backup in place of the database; the server must not run
    Restore {
        /// A folder that `db backup` wrote
        folder: PathBuf,
        /// Put a database that is there aside, as db.replaced
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Print a line for each job that is not done: what, for whom, when it was scheduled (seconds since 1970), rooms changed
    List,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the configuration, or that nothing is
    Check,
    /// Print a commented configuration with every key
    Example,
}
