//! What the operator asks of a server's data, by `meyrin user`, `meyrin db`, `meyrin room`, `meyrin job` and
//! `meyrin federation`.
//!
//! A running server is asked through a unix socket in the data folder, which only its user can reach; the data
//! of a stopped one are opened directly. Both run the same code, [`execute::execute`].
//! Through the socket goes one request per connection, as a line of JSON, and back go [`Line`]s.

mod accounts;
pub mod connect;
pub mod execute;
mod federation;
pub mod listener;
mod output;
pub mod rooms;
mod terminal;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use self::rooms::{Order, Page, State};

/// What is asked.
#[derive(Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Make an account.
    UserCreate {
        /// The localpart, or the whole user id.
        name: String,
        /// None: nobody can log in by password.
        password: Option<String>,
        admin: bool,
        display_name: Option<String>,
    },
    /// Give an account another password.
    UserResetPassword {
        name: String,
        password: String,
        /// Its devices stay logged in.
        keep_devices: bool,
    },
    /// List the accounts.
    UserList {
        /// Those that were closed as well.
        deactivated: bool,
    },
    /// Close an account for good.
    UserDeactivate {
        name: String,
        /// With the wish that what it wrote is no longer shown to those who join later.
        erase: bool,
    },
    /// Walk over the database and prove that it is whole.
    DatabaseCheck,
    /// The sizes of the database.
    DatabaseStats,
    /// The rooms, the largest first.
    RoomList { by: Order, limit: usize, json: bool },
    /// What a room is made of.
    RoomShow {
        /// Its id or an alias.
        room: String,
        /// Of each list.
        limit: usize,
        json: bool,
    },
    /// The graph of a room's events, for Graphviz.
    RoomGraph {
        room: String,
        /// So many of the last ones.
        last: usize,
        /// Instead: an event, and so many before and after it.
        around: Option<(String, usize)>,
    },
    /// A state of a room, or what differs between two.
    RoomState {
        room: String,
        state: State,
        event_type: Option<String>,
        key: Option<String>,
        content: bool,
        page: Page,
        json: bool,
    },
    /// Prove that a room is whole.
    RoomCheck {
        room: String,
        /// No state is resolved again.
        quick: bool,
    },
    /// The jobs that are not done.
    JobList,
    /// The servers that something waits for.
    FederationList { json: bool },
    /// How it stands with a server.
    FederationShow { server: String, json: bool },
    /// Try a server now.
    FederationRetry { server: String },
    /// Write a copy of the database into a new folder.
    DatabaseBackup {
        /// Absolute; must not be there yet.
        folder: PathBuf,
    },
}

impl Request {
    /// What the log says of it: nothing secret.
    pub fn summary(&self) -> String {
        match self {
            Request::UserCreate { name, .. } => format!("user create {name}"),
            Request::UserResetPassword { name, .. } => format!("user reset-password {name}"),
            Request::UserList { .. } => "user list".to_owned(),
            Request::UserDeactivate { name, .. } => format!("user deactivate {name}"),
            Request::DatabaseCheck => "db check".to_owned(),
            Request::DatabaseStats => "db stats".to_owned(),
            Request::RoomList { .. } => "room list".to_owned(),
            Request::RoomShow { room, .. } => format!("room show {room:?}"),
            Request::RoomGraph { room, .. } => format!("room graph {room:?}"),
            Request::RoomState { room, .. } => format!("room state {room:?}"),
            Request::RoomCheck { room, .. } => format!("room check {room:?}"),
            Request::JobList => "job list".to_owned(),
            Request::FederationList { .. } => "federation list".to_owned(),
            Request::FederationShow { server, .. } => format!("federation show {server:?}"),
            Request::FederationRetry { server } => format!("federation retry {server:?}"),
            Request::DatabaseBackup { folder } => format!("db backup {}", folder.display()),
        }
    }
}

/// A line of the answer. The last is `Done` or `Failed`; without one the server went away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// To be printed.
    Text(String),
    /// How far it has come, and how far it has to go.
    Progress(u64, u64),
    /// It is done.
    Done,
    /// It is not done, and why.
    Failed(String),
}
