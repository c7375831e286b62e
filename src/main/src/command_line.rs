//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::operator::rooms::{Order, Page, State};

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
    /// Look into the rooms; nothing is changed
    Room {
        #[command(subcommand)]
        command: RoomCommand,
    },
    /// Look at work that goes on behind the requests
    Job {
        #[command(subcommand)]
        command: JobCommand,
    },
    /// Look at the servers that something is sent to
    Federation {
        #[command(subcommand)]
        command: FederationCommand,
    },
    /// Look after the key that the server signs with
    Key {
        #[command(subcommand)]
        command: KeyCommand,
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
pub enum RoomCommand {
    /// Print a line for each room, the largest first
    List {
        /// What makes a room large
        #[arg(long, value_enum, default_value_t = Order::Events)]
        by: Order,
        /// The most rooms to print
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// A JSON object for each room
        #[arg(long)]
        json: bool,
    },
    /// Print what a room is made of: members, servers, events, extremities, gaps, state and its history
    Show {
        /// '!ROOM_ID' or '#ALIAS:example.org' (in quotes, the shell has its own use for ! and #)
        room: String,
        /// The most entries of each list to print
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the graph of a room's events for Graphviz: meyrin room graph ROOM | dot -Tsvg > room.svg
    Graph {
        /// '!ROOM_ID' or '#ALIAS:example.org'
        room: String,
        /// The last events, so many
        #[arg(
            long,
            value_name = "N",
            default_value_t = 50,
            conflicts_with = "around"
        )]
        last: usize,
        /// An event, and the events that came before and after it
        #[arg(long, value_name = "EVENT")]
        around: Option<String>,
        /// How many events on each side of that one
        #[arg(long, value_name = "N", default_value_t = 25, requires = "around")]
        span: usize,
    },
    /// Print a line for each entry of a room's state, or for each on which two states differ
    State {
        /// '!ROOM_ID' or '#ALIAS:example.org'
        room: String,
        /// The state right after an event, whose '$ID' is put in quotes [default: the current state]
        #[arg(long, value_name = "EVENT", conflicts_with_all = ["before", "diff"])]
        at: Option<String>,
        /// The state right before an event
        #[arg(long, value_name = "EVENT", conflicts_with = "diff")]
        before: Option<String>,
        /// What differs between the states right after two events
        #[arg(long, value_name = "EVENT", num_args = 2)]
        diff: Option<Vec<String>>,
        /// Entries of this type only
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// Entries of this state key only
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// The content as well
        #[arg(long)]
        content: bool,
        #[command(flatten)]
        page: Page,
        /// A JSON object for each entry
        #[arg(long)]
        json: bool,
    },
    /// Prove that a room is undamaged: its tables, and every event, verdict and state made anew from its events
    Check {
        /// '!ROOM_ID' or '#ALIAS:example.org'
        room: String,
        /// Do not resolve states again, which takes long in large rooms with many forks
        #[arg(long)]
        quick: bool,
    },
}

impl RoomCommand {
    /// What `--at`, `--before` and `--diff` ask for.
    pub fn state(at: Option<String>, before: Option<String>, diff: Option<Vec<String>>) -> State {
        match (at, before, diff.map(<[String; 2]>::try_from)) {
            (_, _, Some(Ok([first, second]))) => State::Difference(first, second),
            (Some(event), _, _) => State::After(event),
            (_, Some(event), _) => State::Before(event),
            _ => State::Now,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a new signing key; the old one stays known for what it signed. The server must not run
    Rotate,
}

#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Print a line for each job that is not done: what, for whom, when it was scheduled (seconds since 1970), rooms changed
    List,
}

#[derive(Debug, Subcommand)]
pub enum FederationCommand {
    /// Print a line for each server that something waits for: name, failing since, tried again (seconds since 1970),
    /// failures in a row, rooms with news for it, messages to devices
    List {
        /// A JSON object for each server
        #[arg(long)]
        json: bool,
    },
    /// Print how it stands with a server, and the rooms shared with it
    Show {
        /// example.org
        server: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Try a server now that failed; the server must run
    Retry {
        /// example.org
        server: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the configuration, or that nothing is
    Check,
    /// Print a commented configuration with every key
    Example,
}
