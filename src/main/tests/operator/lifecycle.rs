//! The life of a server process, as its operator and systemd see it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::supervised::{Supervised, meyrin, write_config};

#[test]
fn systemd_hears_of_start_life_reload_and_stop_and_the_exit_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Supervised::start("");
        server.wait_for("WATCHDOG=1");
        server.signal(Signal::HUP);
        server.wait_for("RELOADING=1");
        server.wait_for("READY=1");
        let begun = Instant::now();
        let (status, _) = server.stop(signal);
        assert!(status.success(), "{status}");
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn the_data_folder_is_made_for_the_owner_alone() {
    let server = Supervised::start("");
    let data = fs::metadata(server.folder.path().join("data")).expect("the data folder");
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_reload_changes_what_it_can_and_says_what_waits_for_a_restart() {
    let mut server = Supervised::start("[log]\nlevel = \"info\"\n");
    let more = "[log]\nlevel = \"warn\"\n[storage]\nsync = \"never\"\n";
    write_config(&server.folder, more);
    server.signal(Signal::HUP);
    let log = server.log_until("storage.sync");
    assert!(log.contains("takes effect only after a restart"), "{log}");
    server.wait_for("READY=1");
    let (status, rest) = server.stop(Signal::TERM);
    assert!(status.success());
    assert!(!rest.contains("INFO"), "the level did not change: {rest}");
}

#[test]
fn a_bad_configuration_is_refused_on_reload_and_the_server_goes_on() {
    let mut server = Supervised::start("");
    write_config(&server.folder, "[storage]\nsink = 1\n");
    server.signal(Signal::HUP);
    let log = server.log_until("storage.sink");
    assert!(
        log.contains("reload refused") && log.contains("meyrin.toml:6"),
        "{log}"
    );
    server.wait_for("READY=1");
    assert!(server.stop(Signal::TERM).0.success());
}

#[test]
fn the_log_is_json_where_asked_for() {
    let mut server = Supervised::start("[log]\nformat = \"json\"\n");
    let line = server.log_until("\"ready\"");
    let last = line.lines().last().expect("a line");
    let value: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(value["server_name"], "example.org");
    assert_eq!(value["level"], "INFO");
}

#[test]
fn a_server_with_a_bad_configuration_does_not_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(
        folder.path().join("meyrin.toml"),
        "servername = \"example.org\"\n",
    )
    .expect("written");
    let (good, _, log) = meyrin(&["serve"], &folder);
    assert!(!good);
    assert!(
        log.contains("meyrin.toml:1: unknown key `servername`; did you mean `server_name`?"),
        "{log}"
    );
}

#[test]
fn config_check_finds_mistakes_and_missing_files_without_starting() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (good, _, log) = meyrin(&["config", "check"], &folder);
    assert!(!good && log.contains("--config"), "{log}");
    write_config(&folder, "");
    let (good, output, log) = meyrin(&["config", "check"], &folder);
    assert!(
        good && output.contains("example.org is good"),
        "{output}{log}"
    );
    write_config(&folder, "[federation]\nextra_ca = \"nowhere.pem\"\n");
    let (good, _, log) = meyrin(&["config", "check", "--config", "meyrin.toml"], &folder);
    assert!(
        !good && log.contains("`federation.extra_ca`: cannot read"),
        "{log}"
    );
    assert!(!folder.path().join("data").exists());
}

#[test]
fn the_example_that_is_printed_passes_the_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (good, example, _) = meyrin(&["config", "example"], &folder);
    assert!(good);
    fs::write(folder.path().join("meyrin.toml"), example).expect("the example is written");
    let (good, output, log) = meyrin(&["config", "check"], &folder);
    assert!(good, "{output}{log}");
}
