//! Data that this version can't use, or not any more: every command refuses them, and says what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::process::Signal;
use store::rocks::{Limits, Rocks};
use store::{Batch, Family, Op, Options, Store, SyncMode};
use tempfile::TempDir;

use crate::supervised::{Supervised, meyrin, meyrin_with_input};

const COMMANDS: [&[&str]; 6] = [
    &["serve"],
    &["db", "check"],
    &["db", "stats"],
    &["db", "backup", "elsewhere"],
    &["user", "list"],
    &["room", "list"],
];

/// The folder of a server that has run and was stopped.
fn stopped() -> Rc<TempDir> {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    let (made, _, log) = meyrin_with_input(&["user", "create", "alice"], "the password\n", &folder);
    assert!(made, "{log}");
    assert!(server.stop(Signal::TERM).0.success());
    folder
}

fn all_refuse(folder: &TempDir, wanted: &[&str]) {
    for command in COMMANDS {
        let (good, output, log) = meyrin(command, folder);
        assert!(!good, "{command:?} went on: {output}{log}");
        for words in wanted {
            assert!(log.contains(words), "{command:?} says: {log}");
        }
    }
}

fn files(database: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(database).expect("the database") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|kind| kind == ending) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_database_of_a_newer_schema_is_refused_with_what_to_do() {
    let folder = stopped();
    let options = Options {
        sync: SyncMode::Always,
        schema: u32::MAX,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|error| panic!("{error}")),
    };
    let engine =
        Rocks::open(&folder.path().join("data/db"), Limits::default()).expect("the database");
    let store = Store::open(Box::new(engine), options).expect("the database");
    let schema = Op {
        family: Family::Meta,
        key: b"\x01schema".to_vec(),
        value: Some(4711u64.to_be_bytes().to_vec()),
        key_position: None,
        value_position: None,
    };
    let ticket = store
        .commit_batch(Batch { ops: vec![schema] })
        .expect("written");
    store.wait(ticket).expect("synced");
    drop(store);
    all_refuse(&folder, &["schema 4711", "newer version", "backup"]);
}

#[test]
fn a_damaged_database_is_refused_with_what_to_do_until_a_backup_is_put_in_its_place() {
    let folder = stopped();
    let (made, _, log) = meyrin(&["db", "backup", "backup"], &folder);
    assert!(made, "{log}");
    let database = folder.path().join("data/db");
    for file in files(&database, "sst") {
        let mut bytes = fs::read(&file).expect("a file");
        bytes[..16].fill(0xA5);
        // The backup shares files with the database.
        fs::remove_file(&file).expect("removed");
        fs::write(&file, bytes).expect("written");
    }
    all_refuse(&folder, &["is damaged", "meyrin db restore"]);
    let (restored, _, log) = meyrin(&["db", "restore", "backup", "--replace"], &folder);
    assert!(restored, "{log}");
    let (good, output, log) = meyrin(&["user", "list"], &folder);
    assert!(good && output.contains("@alice:example.org"), "{log}");
}

#[test]
fn missing_and_broken_files_of_a_database_are_refused() {
    let harms: [fn(&Path); 4] = [
        |database| fs::remove_file(database.join("CURRENT")).expect("removed"),
        |database| fs::write(database.join("CURRENT"), "nonsense\n").expect("written"),
        |database| {
            for entry in fs::read_dir(database).expect("the database").flatten() {
                if entry.file_name().to_string_lossy().starts_with("MANIFEST") {
                    fs::write(entry.path(), [0xA5; 4096]).expect("written");
                }
            }
        },
        |database| {
            // All that was acknowledged since the start is in the log.
            for log in files(database, "log") {
                let bytes = fs::read(&log).expect("a log");
                let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                fs::write(&log, &bytes[..used / 2]).expect("written");
            }
        },
    ];
    for harm in harms {
        let folder = stopped();
        harm(&folder.path().join("data/db"));
        all_refuse(&folder, &["is damaged", "meyrin db restore"]);
    }
}

#[test]
fn while_a_server_runs_no_other_process_opens_its_data() {
    let server = Supervised::start("");
    let (good, _, log) = meyrin(&["serve"], &server.folder);
    assert!(!good && log.contains("in use by another process"), "{log}");
    // Without its socket nothing can be asked of it, and nothing goes around it.
    fs::remove_file(server.folder.path().join("data/admin.sock")).expect("the socket");
    for command in &COMMANDS[1..] {
        let (good, _, log) = meyrin(command, &server.folder);
        assert!(
            !good && log.contains("can't be reached"),
            "{command:?} {log}"
        );
    }
    assert!(server.stop(Signal::TERM).0.success());
}
