//! Carrying out what the operator asks.

use std::fs;
use std::path::Path;

use api::App;
use node::{Node, NodeError};
use store::{Read, StoreError};
use tokio::runtime::Handle;

use super::Request;
use super::accounts::{self, AccountsError, New};
use super::federation;
use super::output::Output;
use super::rooms::{self as operator_rooms, RoomError, Wanted};
use crate::{backup, database};

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rooms(#[from] rooms::Error),
    #[error(transparent)]
    Media(#[from] media::MediaError),
    #[error("the database is damaged: {0} problems")]
    Damaged(u64),
    #[error(transparent)]
    Backup(#[from] backup::BackupError),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Room(#[from] RoomError),
}

/// Carries out `request`; `out` hears what the operator is to read. May take long, and waits for `runtime`, so it
/// must not be called on a thread that serves requests.
pub fn execute(
    request: Request,
    app: &App,
    runtime: &Handle,
    out: Output<'_>,
) -> Result<(), ExecuteError> {
    match request {
        Request::UserCreate {
            name,
            password,
            admin,
            display_name,
        } => {
            let new = New {
                name,
                password,
                admin,
                display_name,
            };
            let user_id = runtime.block_on(accounts::create(app, new))?;
            out.print(format!("made {user_id}"));
        }
        Request::UserResetPassword {
            name,
            password,
            keep_devices,
        } => {
            let reset = accounts::reset_password(app, &name, password, keep_devices);
            runtime.block_on(reset)?;
            out.print(format!("{name} has another password"));
        }
        Request::UserList { deactivated } => accounts::list(app, deactivated, out)?,
        Request::UserDeactivate { name, erase } => {
            runtime.block_on(accounts::deactivate(app, &name, erase))?;
            out.print(format!("{name} is deactivated"));
        }
        Request::DatabaseCheck => check(app.node(), out)?,
        Request::DatabaseStats => stats(app.node(), out)?,
        Request::RoomList { by, limit, json } => {
            operator_rooms::list(app.node(), by, limit, json, out)?;
        }
        Request::RoomShow { room, limit, json } => {
            operator_rooms::show(app.node(), &room, limit, json, out)?;
        }
        Request::RoomGraph { room, last, around } => {
            operator_rooms::graph(app.node(), &room, last, around, out)?;
        }
        Request::RoomState {
            room,
            state,
            event_type,
            key,
            content,
            page,
            json,
        } => {
            let wanted = Wanted {
                state,
                event_type,
                key,
                content,
                page,
                json,
            };
            operator_rooms::state(app.node(), &room, &wanted, out)?;
        }
        Request::RoomCheck { room, quick } => {
            operator_rooms::check(app.node(), &room, quick, out)?;
        }
        Request::JobList => jobs(app.node(), out)?,
        Request::FederationList { json } => federation::list(app.node(), json, out)?,
        Request::FederationShow { server, json } => {
            federation::show(app.node(), &server, json, out)?;
        }
        Request::FederationRetry { server } => {
            // Tasks are started.
            let _runtime = runtime.enter();
            out.print(match app.node().retry_now(&server) {
                true => format!("trying {server:?}"),
                false => format!("nothing waits for {server:?}"),
            });
        }
        Request::DatabaseBackup { folder } => {
            backup::write(app.node(), &folder)?;
            out.print(format!("the backup is in {}", folder.display()));
        }
    }
    Ok(())
}

/// Decodes every row, compares what is derived with what it is made from, and looks for the file of every upload. Each
/// problem is a line.
fn check(node: &Node, out: Output<'_>) -> Result<(), ExecuteError> {
    let view = node.view();
    let mut problems = 0;
    let mut report = |problem: String| {
        problems += 1;
        out.print(problem);
    };
    let rows = store::check_rows(&view, &database::tables(), &mut report)?;
    let has_file = |file: &media::FileId, length| {
        let open = node.media().files().read(file);
        open.is_ok_and(|open| open.length == length)
    };
    // A row that can't be read ends the check of its crate, not of the others.
    if let Err(error) = names::check(&view, &mut report) {
        report(format!("names: {error}"));
    }
    if let Err(error) = users::check::all(&view, &mut report) {
        report(format!("users: {error}"));
    }
    let total = rooms::inspect::rooms(&view).count() as u64;
    let mut progress = |done| {
        out.progress(done, total);
    };
    if let Err(error) = rooms::check::all(&view, &mut report, &mut progress) {
        report(format!("rooms: {error}"));
    }
    if let Err(error) = media::check(&view, has_file, &mut report) {
        report(format!("media: {error}"));
    }
    if problems > 0 {
        return Err(ExecuteError::Damaged(problems));
    }
    out.print(format!("{rows} rows, no problems"));
    Ok(())
}

fn stats(node: &Node, out: Output<'_>) -> Result<(), ExecuteError> {
    out.print(format!(
        "{:<16} {:>14} {:>12} {:>12}",
        "family", "rows (about)", "disk KiB", "memory KiB"
    ));
    for family in node.store().stats()? {
        let (disk, memory) = (family.disk_bytes / 1024, family.memory_bytes / 1024);
        out.print(format!(
            "{:<16} {:>14} {disk:>12} {memory:>12}",
            family.name, family.rows
        ));
    }
    let config = node.config();
    out.print(format!("position         {:>14}", node.view().position().0));
    out.print(format!(
        "database on disk {:>14} KiB",
        folder_bytes(&config.database_dir()) / 1024
    ));
    Ok(())
}

/// A line for each job that is not done: what it does, for whom, when it was scheduled in seconds since 1970, and how many
/// rooms it has changed. Of a room whose members are fetched: its id, when it was entered, and how many events wait for them.
fn jobs(node: &Node, out: Output<'_>) -> Result<(), ExecuteError> {
    let view = node.view();
    for (job, progress) in node::jobs::list(&view)? {
        out.print(format!(
            "{}\t{}\t{}\t{}",
            job.task.name(),
            names::user_id(&view, job.task.user())?,
            progress.scheduled_ms / 1000,
            progress.steps
        ));
    }
    for room in node::federation::partial_rooms(&view)? {
        let entered = room.entered_ms / 1000;
        out.print(format!(
            "fetch_members\t{}\t{entered}\t{}",
            room.room_id, room.held
        ));
    }
    Ok(())
}

/// The bytes of the files directly in `folder`. What goes away meanwhile counts nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let mut bytes = 0;
    for entry in entries.flatten() {
        bytes += entry.metadata().map_or(0, |metadata| metadata.len());
    }
    bytes
}
