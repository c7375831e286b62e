//! The record of what crossed between this server and others (`federation.audit`): a JSON object in a line for each
//! request, in both directions, in the log under the target `audit` and, if `federation.audit_file` is set, in that file.
//!
//! Invariants:
//! - Nobody waits for the file: a thread of its own writes it, and what it can't keep up with is counted and said there.
//! - The file is found by its name for each piece that is written: who moves it away finds a new one in its place.
//! - Off, it costs a look at the configuration.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use config::Federation;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::policy::{Direction, Subject};
use super::transactions::{MOST_EDUS, MOST_PDUS};
use crate::Node;

/// Lines that wait for the thread.
const MOST_WAITING: usize = 4_096;

/// Lines that are written in one piece.
const MOST_AT_ONCE: usize = 256;

/// The longest text of a request that goes into a line, in bytes.
const MOST_TEXT_BYTES: usize = 255;

/// A request that crossed, or was held back.
#[derive(Debug)]
pub struct Crossing<'a> {
    /// Whose request it is.
    pub direction: Direction,
    /// The other server.
    pub server: &'a str,
    /// Of a request of another server: it has proved that it sent it.
    pub is_proved: bool,
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub target: &'a str,
    /// The body of the request.
    pub body: &'a [u8],
    /// The bytes of the answer's body; nothing where that is not known when it begins.
    pub answer_bytes: Option<u64>,
    /// The status of the answer, or why there is none.
    pub outcome: Result<u16, String>,
    /// From the request to the answer's beginning.
    pub took: Duration,
}

impl Crossing<'_> {
    fn line(&self, own_name: &str, now_ms: u64) -> String {
        let subject = Subject::of(own_name, self.target);
        let carried = Carried::by(self.method, &subject, self.body);
        let (request, answer) = (Some(self.body.len() as u64), self.answer_bytes);
        let (bytes_in, bytes_out) = match self.direction {
            Direction::In => (request, answer),
            Direction::Out => (answer, request),
        };
        let mut line = json!({
            "time_ms": now_ms,
            "direction": self.direction.as_str(),
            "server": self.server,
            "method": self.method,
            "request": short(&subject.endpoint),
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "took_ms": self.took.as_millis() as u64,
        });
        let mut say = |key: &str, value: Value| line[key] = value;
        if !self.is_proved {
            say("unproved", true.into());
        }
        if let Some(room) = &subject.room {
            say("room", short(room).into());
        }
        if let Some(user) = &subject.user {
            say("user", short(user).into());
        }
        if !carried.pdus.is_empty() {
            say("pdus", json!(carried.pdus));
        }
        if !carried.edus.is_empty() {
            say("edus", json!(carried.edus));
        }
        match &self.outcome {
            Ok(status) => say("status", (*status).into()),
            Err(error) => say("error", short(error).into()),
        }
        line.to_string()
    }
}

/// What a request brings along: events by room, and EDUs by type.
#[derive(Debug, Default)]
struct Carried {
    pdus: BTreeMap<String, u64>,
    edus: BTreeMap<String, u64>,
}

impl Carried {
    fn by(method: &str, subject: &Subject, body: &[u8]) -> Self {
        let mut carried = Self::default();
        match (method, subject.endpoint.as_str()) {
            ("PUT", "send") => carried.count(body),
            ("PUT", "send_join" | "send_leave" | "send_knock" | "invite") => {
                let room = subject.room.as_deref().unwrap_or_default();
                carried.pdus.insert(short(room).to_owned(), 1);
            }
            _ => {}
        }
        carried
    }

    /// What is in a transaction. Of what is none, nothing.
    fn count(&mut self, body: &[u8]) {
        #[derive(Deserialize)]
        struct Transaction<'a> {
            #[serde(borrow, default)]
            pdus: Vec<&'a RawValue>,
            #[serde(borrow, default)]
            edus: Vec<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Event {
            room_id: String,
        }
        #[derive(Deserialize)]
        struct Edu {
            edu_type: String,
        }
        let Ok(transaction) = serde_json::from_slice::<Transaction<'_>>(body) else {
            return;
        };
        // What has more is refused.
        for pdu in transaction.pdus.iter().take(MOST_PDUS) {
            let event = serde_json::from_str::<Event>(pdu.get());
            let room = event.map(|event| event.room_id).unwrap_or_default();
            *self.pdus.entry(short(&room).to_owned()).or_default() += 1;
        }
        for edu in transaction.edus.iter().take(MOST_EDUS) {
            let edu = serde_json::from_str::<Edu>(edu.get());
            let edu_type = edu.map(|edu| edu.edu_type).unwrap_or_default();
            *self.edus.entry(short(&edu_type).to_owned()).or_default() += 1;
        }
    }
}

fn short(text: &str) -> &str {
    let mut end = MOST_TEXT_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Where the record goes.
#[derive(Default)]
pub(crate) struct Audit {
    writer: OnceLock<Option<SyncSender<Line>>>,
    /// Lines that were not written.
    lost: AtomicU64,
}

/// A line on its way to a file.
struct Line {
    path: PathBuf,
    text: String,
}

impl Audit {
    /// Notes what crossed, if the configuration asks for that.
    pub(crate) fn note(
        &self,
        federation: &Federation,
        own_name: &str,
        now_ms: u64,
        crossing: &Crossing<'_>,
    ) {
        if !federation.audit {
            return;
        }
        let line = crossing.line(own_name, now_ms);
        tracing::info!(target: "audit", "{line}");
        let Some(path) = &federation.audit_file else {
            return;
        };
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = json!({ "time_ms": now_ms, "lost": lost }).to_string();
            self.hand_over(path, text, lost);
        }
        self.hand_over(path, line, 1);
    }

    fn hand_over(&self, path: &Path, mut text: String, stands_for: u64) {
        text.push('\n');
        let line = Line {
            path: path.to_owned(),
            text,
        };
        let writer = self.writer.get_or_init(start_writer);
        let is_taken = writer
            .as_ref()
            .is_some_and(|writer| writer.try_send(line).is_ok());
        if !is_taken {
            self.lost.fetch_add(stands_for, Ordering::Relaxed);
        }
    }
}

fn start_writer() -> Option<SyncSender<Line>> {
    let (sender, receiver) = sync_channel(MOST_WAITING);
    let thread = std::thread::Builder::new().name("audit".to_owned());
    match thread.spawn(move || write_lines(&receiver)) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!(%error, "the audit record can't be written");
            None
        }
    }
}

/// Writes what comes until nobody sends any more.
fn write_lines(lines: &Receiver<Line>) {
    let mut open: Option<Open> = None;
    let mut is_failing = false;
    while let Ok(first) = lines.recv() {
        let Line { path, mut text } = first;
        let mut of_another = None;
        for line in lines.try_iter().take(MOST_AT_ONCE) {
            if line.path != path {
                of_another = Some(line);
                break;
            }
            text.push_str(&line.text);
        }
        let others = of_another.map(|line| (line.path, line.text));
        for (path, text) in [Some((path, text)), others].into_iter().flatten() {
            match append(&mut open, &path, &text) {
                Ok(()) => is_failing = false,
                Err(error) => {
                    open = None;
                    if !is_failing {
                        let path = path.display();
                        tracing::error!(%error, %path, "the audit record can't be written");
                    }
                    is_failing = true;
                }
            }
        }
    }
}

/// The file of the record, as it was found last.
struct Open {
    path: PathBuf,
    file: File,
    device: u64,
    inode: u64,
}

fn append(open: &mut Option<Open>, path: &Path, text: &str) -> io::Result<()> {
    let is_there = |open: &Open| {
        let found = std::fs::metadata(path);
        open.path == path && found.is_ok_and(|it| it.dev() == open.device && it.ino() == open.inode)
    };
    let mut current = match open.take().filter(is_there) {
        Some(current) => current,
        None => {
            let mut options = OpenOptions::new();
            options.create(true).append(true).mode(0o640);
            let file = options.open(path)?;
            let metadata = file.metadata()?;
            Open {
                path: path.to_owned(),
                device: metadata.dev(),
                inode: metadata.ino(),
                file,
            }
        }
    };
    current.file.write_all(text.as_bytes())?;
    *open = Some(current);
    Ok(())
}

impl Node {
    /// Whether what crosses is noted.
    pub fn audits(&self) -> bool {
        self.config().federation.audit
    }

    /// Notes what crossed, if the configuration asks for that.
    pub fn note_crossing(&self, crossing: &Crossing<'_>) {
        let config = self.config();
        let own_name = self.server_name();
        self.audit
            .note(&config.federation, own_name, self.now_ms(), crossing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossing<'a>(direction: Direction, target: &'a str, body: &'a [u8]) -> Crossing<'a> {
        Crossing {
            direction,
            server: "a.example",
            is_proved: true,
            method: "PUT",
            target,
            body,
            answer_bytes: Some(12),
            outcome: Ok(200),
            took: Duration::from_millis(3),
        }
    }

    #[test]
    fn a_line_says_who_what_how_much_and_what_became_of_it() {
        let body = json!({
            "pdus": [{"room_id": "!a:x"}, {"room_id": "!b:x"}, {"room_id": "!a:x"}, {}],
            "edus": [{"edu_type": "m.typing", "content": {}}],
        });
        let body = body.to_string();
        let sent = crossing(
            Direction::Out,
            "/_matrix/federation/v1/send/1",
            body.as_bytes(),
        );
        let line: Value = serde_json::from_str(&sent.line("here.example", 7)).expect("JSON");
        let wanted = json!({
            "time_ms": 7, "direction": "out", "server": "a.example", "method": "PUT",
            "request": "send", "bytes_in": 12, "bytes_out": body.len(), "took_ms": 3,
            "pdus": {"!a:x": 2, "!b:x": 1, "": 1}, "edus": {"m.typing": 1}, "status": 200,
        });
        assert_eq!(line, wanted);

        let target = "/_matrix/federation/v2/invite/%21r:a.example/$e";
        let mut refused = crossing(Direction::In, target, b"{}");
        refused.is_proved = false;
        refused.outcome = Err("no".to_owned());
        let line: Value = serde_json::from_str(&refused.line("here.example", 7)).expect("JSON");
        assert_eq!(line["room"], "!r:a.example");
        assert_eq!(line["pdus"], json!({"!r:a.example": 1}));
        assert_eq!(
            (&line["unproved"], &line["error"]),
            (&json!(true), &json!("no"))
        );
        assert_eq!(
            (&line["bytes_in"], &line["bytes_out"]),
            (&json!(2), &json!(12))
        );
    }

    #[test]
    fn a_file_that_is_moved_away_is_followed_by_a_new_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, moved) = (folder.path().join("audit.jsonl"), folder.path().join("old"));
        let mut open = None;
        append(&mut open, &path, "1\n").expect("written");
        append(&mut open, &path, "2\n").expect("written");
        std::fs::rename(&path, &moved).expect("moved");
        append(&mut open, &path, "3\n").expect("written");
        let text = |path: &Path| std::fs::read_to_string(path).expect("a file");
        assert_eq!(
            (text(&moved).as_str(), text(&path).as_str()),
            ("1\n2\n", "3\n")
        );
    }
}
