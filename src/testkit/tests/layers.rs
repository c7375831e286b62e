//! Rule 1 of the architecture: crates depend on each other in one direction, and only along the
//! edges listed here. Rule 2: the core knows no runtime, no clock, no randomness, no I/O.
//!
//! A new edge is a change of the architecture: it is added here together with its reason in
//! `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every crate of the workspace with the crates of the workspace that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("store", &[]),
    ("event", &[]),
    ("config", &[]),
    ("names", &["store"]),
    ("media", &["names", "store"]),
    ("rooms", &["event", "names", "store"]),
    ("users", &["event", "names", "store"]),
    ("servers", &["event", "names", "store"]),
    ("remote", &["event"]),
    ("sync", &["event", "names", "rooms", "store", "users"]),
    (
        "node",
        &[
            "config", "event", "media", "names", "remote", "rooms", "servers", "store", "sync",
            "users",
        ],
    ),
    (
        "api",
        &[
            "config", "event", "media", "names", "node", "remote", "rooms", "servers", "store",
            "sync", "users",
        ],
    ),
    (
        "meyrin",
        &[
            "api", "config", "event", "media", "names", "node", "rooms", "servers", "store",
            "sync", "users",
        ],
    ),
    ("testkit", &["event", "names", "rooms", "store"]),
    ("oracle", &["event"]),
    ("simulator", &["event", "names", "oracle", "rooms", "store"]),
];

/// What only tests may use.
const FOR_TESTS_ONLY: &[&str] = &["testkit", "oracle"];

/// The synchronous core of rule 2.
const CORE: &[&str] = &[
    "store", "names", "event", "rooms", "users", "servers", "sync",
];

/// Crates that bring a runtime, a network or randomness; the core may use them in tests alone.
const NOT_IN_CORE: &[&str] = &[
    "async-trait",
    "axum",
    "chrono",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "hyper-util",
    "rand",
    "reqwest",
    "rustls",
    "time",
    "tokio",
    "tokio-util",
    "tower",
    "tower-http",
];

/// Parts of the standard library that the pure core (the core without the store, which owns files
/// and the writer's thread) does without.
const NOT_IN_PURE_SOURCES: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "std::env",
    "std::fs",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "std::process",
    "std::thread",
    "thread::spawn",
];

#[test]
fn crates_depend_on_each_other_only_along_the_allowed_edges() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let packages = packages();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let listed: BTreeSet<&str> = allowed.keys().copied().collect();
    assert_eq!(
        ours, listed,
        "the list of allowed edges names each crate of the workspace"
    );

    let mut forbidden = Vec::new();
    for package in &packages {
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if !ours.contains(name) || allowed[package.name.as_str()].contains(&name) {
                continue;
            }
            if !(dependency.for_tests && FOR_TESTS_ONLY.contains(&name)) {
                forbidden.push(format!("{} -> {name}", package.name));
            }
        }
    }
    assert!(
        forbidden.is_empty(),
        "edges that are not allowed: {forbidden:?}"
    );
}

#[test]
fn the_allowed_edges_have_no_cycle() {
    let mut below: BTreeSet<&str> = BTreeSet::new();
    let mut left: Vec<_> = ALLOWED.to_vec();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|(name, uses)| {
            let settled = uses.iter().all(|used| below.contains(used));
            if settled {
                below.insert(name);
            }
            !settled
        });
        assert!(left.len() < before, "these crates form a cycle: {left:?}");
    }
}

#[test]
fn the_core_uses_no_runtime_network_or_randomness() {
    let mut found = Vec::new();
    for package in packages()
        .iter()
        .filter(|package| CORE.contains(&package.name.as_str()))
    {
        for dependency in &package.dependencies {
            if !dependency.for_tests && NOT_IN_CORE.contains(&dependency.name.as_str()) {
                found.push(format!("{} -> {}", package.name, dependency.name));
            }
        }
    }
    assert!(
        found.is_empty(),
        "the core is synchronous and pure, but: {found:?}"
    );
}

#[test]
fn the_pure_core_reads_no_clock_file_or_socket() {
    let mut found = Vec::new();
    for name in CORE.iter().filter(|name| **name != "store") {
        for file in rust_files(&workspace().join("src").join(name).join("src")) {
            let source = std::fs::read_to_string(&file).expect("a source file is readable");
            // Unit tests stand at the end of a file.
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in source.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in NOT_IN_PURE_SOURCES
                    .iter()
                    .filter(|word| code.contains(**word))
                {
                    found.push(format!("{}:{}: {word}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "time and I/O come in as arguments, but: {found:#?}"
    );
}

#[test]
fn every_source_file_begins_by_saying_what_it_owns() {
    let silent: Vec<_> = rust_files(&workspace().join("src"))
        .into_iter()
        .filter(|file| {
            let source = std::fs::read_to_string(file).expect("a source file is readable");
            !source.starts_with("//!")
        })
        .collect();
    assert!(
        silent.is_empty(),
        "files without a header comment: {silent:#?}"
    );
}

struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    for_tests: bool,
}

/// The packages of the workspace as cargo sees them.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            dependencies: list(&package["dependencies"])
                .iter()
                .map(|dependency| Dependency {
                    name: text(&dependency["name"]),
                    for_tests: dependency["kind"] == "dev",
                })
                .collect(),
        })
        .collect()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a source directory is readable") {
            let path = entry.expect("an entry of a source directory").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
