//! The generated documents are those of the keys. `MEYRIN_BLESS=1 cargo test -p config` writes them anew.

use std::fs;
use std::path::Path;

use config::Config;

#[test]
fn the_reference_in_the_documentation_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let wanted = config::reference();
    if std::env::var_os("MEYRIN_BLESS").is_some() {
        fs::write(&path, &wanted).expect("the reference is written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/configuration.md is stale: MEYRIN_BLESS=1 cargo test --release -p config"
    );
}

#[test]
fn the_example_is_a_configuration_with_every_default() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("meyrin.toml");
    fs::write(&path, config::example()).expect("the example is written");
    let example = Config::load(Some(&path), []).expect("the example is a good configuration");
    let server_name = config::ServerName::new("example.org").expect("a name");
    assert_eq!(
        example,
        Config {
            server_name,
            ..Config::default()
        }
    );
}

#[test]
fn the_example_is_a_configuration_with_every_line_put_into_effect() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("meyrin.toml");
    let all: String = config::example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(&path, &all).expect("the example is written");
    let config = Config::load(Some(&path), []).unwrap_or_else(|error| panic!("{error}\n{all}"));
    assert_eq!(config.well_known.contacts.len(), 1);
    assert!(config.listen[0].tls_key.is_some());
}
