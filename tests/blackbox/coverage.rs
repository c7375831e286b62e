//! Every endpoint of the specification, asked for on the running binary: which are there, and that those that
//! want an access token say so. `docs/api-coverage.md` is made here:
//! `MEYRIN_BLESS=1 cargo test --release -p meyrin --test blackbox coverage`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use testkit::Client;

use crate::server;

/// API, method, path and authentication of every endpoint of the specification that a homeserver serves.
const ENDPOINTS: &str = include_str!("endpoints.tsv");

struct Endpoint {
    api: &'static str,
    method: &'static str,
    path: &'static str,
    auth: &'static str,
}

fn endpoints() -> impl Iterator<Item = Endpoint> {
    ENDPOINTS.lines().map(|line| {
        let mut columns = line.split('\t');
        let mut next = || columns.next().expect("four columns");
        Endpoint {
            api: next(),
            method: next(),
            path: next(),
            auth: next(),
        }
    })
}

/// The path with something that can't be meant in every placeholder.
fn concrete(path: &str) -> String {
    let mut out = String::new();
    for part in path.split_inclusive('/') {
        let slash = part.ends_with('/');
        let name = part.trim_end_matches('/');
        out += if name.starts_with('{') { "x" } else { name };
        out += if slash { "/" } else { "" };
    }
    out
}

fn ask(client: &Client, endpoint: &Endpoint) -> (u16, String) {
    let path = concrete(endpoint.path);
    let response = client.exchange(endpoint.method, &path, &[], Vec::new());
    // What is not JSON is a page or a file, and so there.
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let code = body["errcode"].as_str().unwrap_or_default();
    (response.status, code.to_owned())
}

#[test]
fn the_list_of_endpoints_in_the_documentation_is_true() {
    let server = server();
    let mut tables: BTreeMap<&str, Vec<(Endpoint, bool)>> = BTreeMap::new();
    for endpoint in endpoints() {
        let (_, code) = ask(&server.client(), &endpoint);
        let there = code != "M_UNRECOGNIZED";
        tables
            .entry(endpoint.api)
            .or_default()
            .push((endpoint, there));
    }
    let mut wanted = String::from(
        "# API coverage\n\nEvery endpoint of the Matrix specification v1.19 that a homeserver serves, and whether the \
         running binary knows it. This page is made by a test (`tests/blackbox/coverage.rs`), which fails when the page \
         is not true.\n",
    );
    for (api, rows) in &tables {
        let count = rows.iter().filter(|(_, there)| *there).count();
        let _ = write!(
            wanted,
            "\n## {api}: {count} of {}\n\n| method | path | served |\n|---|---|---|\n",
            rows.len()
        );
        for (endpoint, there) in rows {
            let (method, path) = (endpoint.method, endpoint.path);
            let served = if *there { "yes" } else { "no" };
            let _ = writeln!(wanted, "| {method} | `{path}` | {served} |");
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api-coverage.md");
    if std::env::var_os("MEYRIN_BLESS").is_some() {
        fs::write(&page, &wanted).expect("the page is written");
    }
    let found = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/api-coverage.md is stale: \
         MEYRIN_BLESS=1 cargo test --release -p meyrin --test blackbox coverage"
    );
}

#[test]
fn whatever_wants_an_access_token_refuses_who_has_none() {
    let server = server();
    let mut wrong = Vec::new();
    for endpoint in endpoints().filter(|endpoint| endpoint.auth == "access-token") {
        let (status, code) = ask(&server.client(), &endpoint);
        let refused = (status, code.as_str()) == (401, "M_MISSING_TOKEN");
        if !refused && code != "M_UNRECOGNIZED" {
            let (method, path) = (endpoint.method, endpoint.path);
            wrong.push(format!("{method} {path}: {status} {code}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
