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
    /// Look after the database
    Db {
        #[command(subcommand)]
        command: DatabaseCommand,
    },
    /// Print the version
    Version,
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
pub enum ConfigCommand {
    /// Say what is wrong with the configuration, or that nothing is
    Check,
    /// Print a commented configuration with every key
    Example,
}
