//! `meyrin room check`: proves that a room is as its events say.

use std::cell::Cell;

use node::Node;
use rooms::inspect::proof::{self, Listener};

use super::text::printable;
use super::{RoomError, find};
use crate::operator::output::Output;

/// Prints a line for each problem; with `quick`, no state is resolved again.
pub fn check(node: &Node, name: &str, quick: bool, out: Output<'_>) -> Result<(), RoomError> {
    let found = find(node, name)?;
    found.rules()?;
    let (problems, read) = (Cell::new(0), Cell::new(true));
    let mut report = |problem: String| {
        problems.set(problems.get() + 1);
        read.set(read.get() && out.print(printable(&problem).into_owned()));
    };
    // A row that can't be read ends this part, not the other.
    if let Err(error) = rooms::check::room(&found.view, found.room, &found.room_id, &mut report) {
        report(error.to_string());
    }
    let mut listener = Listener {
        report: &mut report,
        progress: &mut |done, total| {
            read.set(read.get() && out.progress(done, total));
            read.get()
        },
    };
    let seen = proof::room(&found.view, found.room, !quick, &mut listener)?;
    if !read.get() {
        return Err(RoomError::GivenUp);
    }
    match problems.get() {
        0 => {
            let (events, resolutions) = (seen.events, seen.resolutions);
            let resolved = match quick {
                true => "no states".to_owned(),
                false => format!("{resolutions} states"),
            };
            out.print(format!(
                "{events} events, {resolved} resolved again, {} after gaps: no problems",
                seen.after_gaps
            ));
            Ok(())
        }
        problems => Err(RoomError::Damaged {
            room: found.room_id,
            problems,
        }),
    }
}
