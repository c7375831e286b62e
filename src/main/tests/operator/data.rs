//! The data of a server in the operator's hands: who may open them, checks, backups.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::supervised::{Supervised, meyrin, write_config};

fn succeeds(arguments: &[&str], folder: &TempDir) -> String {
    let (good, output, log) = meyrin(arguments, folder);
    assert!(good, "{arguments:?}: {output}{log}");
    output
}

fn fails(arguments: &[&str], folder: &TempDir) -> String {
    let (good, output, log) = meyrin(arguments, folder);
    assert!(!good, "{arguments:?}: {output}{log}");
    output + &log
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let server = Supervised::start("");
    let log = fails(&["serve"], &server.folder);
    assert!(log.contains("in use by another process"), "{log}");
    succeeds(&["db", "stats"], &server.folder);
    assert!(server.stop(Signal::TERM).0.success());
}

#[test]
fn check_and_stats_answer_with_and_without_a_running_server() {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    let running = succeeds(&["db", "check"], &folder);
    assert!(running.contains("no problems"), "{running}");
    assert!(succeeds(&["db", "stats"], &folder).contains("position"));
    assert!(server.stop(Signal::TERM).0.success());
    let stopped = succeeds(&["db", "check"], &folder);
    assert!(stopped.contains("no problems"), "{stopped}");
    assert!(succeeds(&["db", "stats"], &folder).contains("position"));
}

#[test]
fn commands_on_data_that_are_not_there_make_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_config(&folder, "");
    let log = fails(&["db", "check"], &folder);
    assert!(log.contains("there are no data"), "{log}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn the_data_of_one_server_are_not_given_to_another_name() {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    assert!(server.stop(Signal::TERM).0.success());
    let path = folder.path().join("meyrin.toml");
    let text = fs::read_to_string(&path).expect("the configuration");
    fs::write(&path, text.replace("example.org", "other.example")).expect("written");
    let log = fails(&["serve"], &folder);
    assert!(log.contains("holds the data of example.org"), "{log}");
}

#[test]
fn the_signing_key_is_made_once_and_kept_from_others() {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    let path = folder.path().join("data/signing.key");
    let first = fs::read_to_string(&path).expect("the key");
    assert!(first.starts_with("ed25519 a_"), "not a key file");
    let mode = fs::metadata(&path).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(server.stop(Signal::TERM).0.success());
    let again = Supervised::start_in(folder.clone());
    assert_eq!(fs::read_to_string(&path).expect("the key"), first);
    assert!(again.stop(Signal::TERM).0.success());
}

#[test]
fn a_backup_of_a_running_server_is_restored_where_the_data_are_lost() {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    succeeds(&["db", "backup", "backup"], &folder);
    let key = fs::read(folder.path().join("data/signing.key")).expect("the key");
    let log = fails(&["db", "backup", "backup"], &folder);
    assert!(log.contains("is there already"), "{log}");
    let log = fails(&["db", "restore", "backup", "--replace"], &folder);
    assert!(log.contains("in use by another process"), "{log}");
    assert!(server.stop(Signal::TERM).0.success());
    let log = fails(&["db", "restore", "backup"], &folder);
    assert!(log.contains("--replace"), "{log}");
    fs::remove_dir_all(folder.path().join("data")).expect("the data are lost");
    succeeds(&["db", "restore", "backup"], &folder);
    assert_eq!(
        fs::read(folder.path().join("data/signing.key")).expect("the key"),
        key
    );
    let again = Supervised::start_in(folder.clone());
    assert!(succeeds(&["db", "check"], &folder).contains("no problems"));
    assert!(again.stop(Signal::TERM).0.success());
}

#[test]
fn a_restore_puts_aside_what_it_replaces() {
    let server = Supervised::start("");
    let folder = server.folder.clone();
    assert!(server.stop(Signal::TERM).0.success());
    succeeds(&["db", "backup", "backup"], &folder);
    succeeds(&["db", "restore", "backup", "--replace"], &folder);
    assert!(folder.path().join("data/db.replaced").is_dir());
    assert!(succeeds(&["db", "check"], &folder).contains("no problems"));
}

#[test]
fn what_is_no_backup_of_this_server_is_not_restored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_config(&folder, "");
    fs::create_dir(folder.path().join("empty")).expect("a folder");
    let log = fails(&["db", "restore", "empty"], &folder);
    assert!(log.contains("is no backup"), "{log}");
    let text =
        r#"{"server_name":"other.example","version":"1","schema":1,"position":1,"created_ms":1}"#;
    fs::write(folder.path().join("empty/backup.json"), text).expect("written");
    let log = fails(&["db", "restore", "empty"], &folder);
    assert!(log.contains("the backup is of other.example"), "{log}");
    let text =
        r#"{"server_name":"example.org","version":"9","schema":9999,"position":1,"created_ms":1}"#;
    fs::write(folder.path().join("empty/backup.json"), text).expect("written");
    let log = fails(&["db", "restore", "empty"], &folder);
    assert!(log.contains("the backup has schema 9999"), "{log}");
    assert!(!folder.path().join("data/db").exists());
}
