//! `docs/dependencies.md` says of every direct dependency why it is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The crates of `[workspace.dependencies]` that are not of this workspace.
fn used() -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let (_, after) = manifest
        .split_once("[workspace.dependencies]\n")
        .expect("the table");
    let table = after.split("\n[").next().expect("its end");
    let mut names = BTreeSet::new();
    for line in table.lines().filter(|line| !line.contains("path = ")) {
        if let Some((name, _)) = line.split_once(" = ") {
            names.insert(name.to_owned());
        }
    }
    names
}

/// The crates named in the first column of the tables.
fn explained() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in read("docs/dependencies.md").lines() {
        let Some(row) = line.strip_prefix("| `") else {
            continue;
        };
        let (crates, why) = row.split_once(" | ").expect("two columns");
        assert!(why.len() > 5, "no reason in: {line}");
        for name in crates.split(',') {
            names.insert(name.trim().trim_matches('`').to_owned());
        }
    }
    names
}

#[test]
fn every_direct_dependency_is_explained_and_no_other() {
    let (used, explained) = (used(), explained());
    let missing: Vec<_> = used.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&used).collect();
    assert!(
        missing.is_empty(),
        "no row in docs/dependencies.md for {missing:?}"
    );
    assert!(
        stale.is_empty(),
        "docs/dependencies.md explains what is not used: {stale:?}"
    );
}
