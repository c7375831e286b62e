//! What a configuration file and the environment may say, and how mistakes in them are answered.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use config::{
    Api, Bind, ByteSize, Config, ConfigError, Level, LogFormat, Rate, RegistrationMode, SyncMode,
};

fn load_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("meyrin.toml");
    fs::write(&path, text).expect("the file is written");
    let environment = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::load(Some(&path), environment)
}

fn load(text: &str) -> Config {
    load_with(text, &[]).expect("a good configuration")
}

/// What is said about a bad configuration, one line per problem, without the path of the file.
fn complaint(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let error = load_with(text, variables)
        .expect_err("a bad configuration")
        .to_string();
    let after_path = |line: &str| {
        line.rsplit_once("meyrin.toml:")
            .map_or(line.to_owned(), |(_, rest)| rest.to_owned())
    };
    error.lines().map(after_path).collect()
}

const LEAST: &str = "server_name = \"example.org\"\n";

#[test]
fn a_server_name_is_all_that_must_be_given() {
    let config = load(LEAST);
    assert_eq!(config.server_name.as_str(), "example.org");
    assert_eq!(config.data_dir, Path::new("/var/lib/meyrin"));
    assert_eq!(config.listen.len(), 1);
    assert_eq!(
        config.listen[0].bind,
        Bind::Tcp("127.0.0.1:8008".parse().expect("an address"))
    );
    assert!(config.listen[0].apis.contains(Api::Client));
    assert!(config.listen[0].apis.contains(Api::Federation));
    assert!(!config.listen[0].apis.contains(Api::Admin));
    assert_eq!(config.registration.mode, RegistrationMode::Closed);
    assert_eq!(config.storage.sync, SyncMode::Always);
    assert_eq!(complaint("", &[]), [" `server_name` must be given"]);
}

#[test]
fn every_key_of_the_promised_list_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("meyrin.toml");
    let text = r#"
        server_name = "example.org:8448"
        data_dir = "data"
        [[listen]]
        bind = "127.0.0.1:8008"
        tls_cert = "cert.pem"
        tls_key = "/etc/key.pem"
        apis = ["client", "federation", "admin", "metrics"]
        [[listen]]
        bind = "unix:client.sock"
        [registration]
        mode = "token"
        shared_secret = "quiet"
        tokens = ["one"]
        [limits]
        enabled = false
        message = { per_second = 0.5, burst = 3 }
        [federation]
        enabled = false
        extra_ca = "ca.pem"
        allow_private_networks = true
        [storage]
        sync = "interval"
        block_cache = "256 MiB"
        [appservices]
        files = ["irc.yaml"]
        [log]
        level = "info,api=debug"
        format = "json"
    "#;
    fs::write(&path, text).expect("the file is written");
    let config = Config::load(Some(&path), []).expect("a good configuration");
    let base = folder.path();
    assert_eq!(config.server_name.as_str(), "example.org:8448");
    assert_eq!(config.data_dir, base.join("data"));
    assert_eq!(config.listen[0].tls_cert, Some(base.join("cert.pem")));
    assert_eq!(
        config.listen[0].tls_key.as_deref(),
        Some(Path::new("/etc/key.pem"))
    );
    assert!(config.listen[0].apis.contains(Api::Metrics));
    assert_eq!(config.listen[1].bind, Bind::Unix(base.join("client.sock")));
    assert_eq!(config.registration.mode, RegistrationMode::Token);
    assert_eq!(
        config
            .registration
            .shared_secret
            .as_ref()
            .map(|s| s.reveal()),
        Some("quiet")
    );
    assert!(!config.limits.enabled);
    assert_eq!(config.limits.message, Rate::new(0.5, 3));
    assert!(!config.federation.enabled && config.federation.allow_private_networks);
    assert_eq!(config.federation.extra_ca, Some(base.join("ca.pem")));
    assert_eq!(config.storage.sync, SyncMode::Interval);
    assert_eq!(config.storage.block_cache, ByteSize::mib(256));
    assert_eq!(config.appservices.files, [base.join("irc.yaml")]);
    assert_eq!(config.log.level.level, Level::Info);
    assert_eq!(config.log.level.targets, [("api".to_owned(), Level::Debug)]);
    assert_eq!(config.log.format, LogFormat::Json);
    let named: Vec<String> = config
        .named_files()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let expected = [
        "listen[0].tls_cert",
        "listen[0].tls_key",
        "federation.extra_ca",
        "appservices.files[0]",
    ];
    assert_eq!(named, expected);
}

#[test]
fn unknown_keys_are_refused_with_their_line_and_the_nearest_known_key() {
    let text = "server_name = \"example.org\"\nsever = 1\n[storage]\nsyn = \"always\"\n[registration]\nfoo = 1\n";
    let lines = complaint(text, &[]);
    let start = "2: unknown key `sever`; known here: server_name, data_dir, listen, ";
    assert!(lines[0].starts_with(start), "{}", lines[0]);
    assert_eq!(
        lines[1],
        "4: unknown key `storage.syn`; did you mean `storage.sync`?"
    );
    assert_eq!(
        lines[2],
        "6: unknown key `registration.foo`; known here: mode, tokens, shared_secret"
    );
    assert_eq!(
        complaint("server_nam = \"example.org\"\n", &[]),
        [
            "1: unknown key `server_nam`; did you mean `server_name`?",
            " `server_name` must be given"
        ]
    );
}

#[test]
fn bad_values_are_refused_all_at_once_with_what_is_allowed() {
    let text = r#"server_name = "https://example.org"
data_dir = ""
[[listen]]
bind = "localhost"
apis = ["client", "everything"]
[storage]
sync = "sometimes"
block_cache = "64 MB"
sync_interval = 1
[limits]
enabled = "no"
message = { per_second = 0, burst = 3 }
[log]
level = "loud"
"#;
    let lines = complaint(text, &[]);
    let starts = [
        "1: `server_name` is \"https://example.org\", but must be a server name",
        "2: `data_dir` is \"\", but must be a path",
        "4: `listen[0].bind` is \"localhost\", but must be an IP address with a port",
        "5: `listen[0].apis` is a list, but must be a list of at least one of \"client\", \"federation\", \"admin\", \"metrics\"",
        "7: `storage.sync` is \"sometimes\", but must be one of \"always\", \"interval\", \"never\"",
        "8: `storage.block_cache` is \"64 MB\", but must be a size",
        "9: `storage.sync_interval` is 1, but must be a time",
        "11: `limits.enabled` is \"no\", but must be true or false",
        "12: `limits.message` is a table, but must be { per_second",
        "14: `log.level` is \"loud\", but must be one of off, error, warn, info, debug, trace",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(
            line.starts_with(start),
            "{line}\ndoes not start with\n{start}"
        );
    }
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let lines = complaint("server_name = \"example.org\"\n[storage\nsync = 1\n", &[]);
    assert!(lines[0].starts_with("2: "), "{lines:?}");
    let lines = complaint("server_name = \"a\"\nserver_name = \"b\"\n", &[]);
    assert!(lines[0].starts_with("2: "), "{lines:?}");
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    let cases = [
        (
            "[[listen]]\nbind = \"127.0.0.1:1\"\ntls_cert = \"c\"",
            "2: `listen[0]` must have `tls_cert` and `tls_key` together",
        ),
        (
            "[[listen]]\nbind = \"unix:a\"\ntls_cert = \"c\"\ntls_key = \"k\"",
            "2: `listen[0]` is a unix socket",
        ),
        (
            "[[listen]]\n[[listen]]",
            "3: `listen[1]` binds 127.0.0.1:8008 a second time",
        ),
        ("listen = []", "2: `listen` must have at least one entry"),
        (
            "[turn]\nusername = \"u\"",
            "2: `turn.username` and `turn.password`",
        ),
        (
            "[well_known]\nclient = \"matrix.example.org\"",
            "3: `well_known.client` must start with https://",
        ),
        (
            "[well_known]\nserver = \"https://example.org\"",
            "3: `well_known.server` must be a name",
        ),
        (
            "[[well_known.contacts]]\nrole = \"m.role.admin\"",
            "2: each of `well_known.contacts`",
        ),
        (
            "[http]\nmax_connections = 0",
            "3: `http.max_connections` must be more than 0",
        ),
        (
            "[storage]\nblock_cache = \"1 KiB\"",
            "3: `storage.block_cache` must be at least 1 MiB",
        ),
    ];
    for (text, start) in cases {
        let lines = complaint(&format!("{LEAST}{text}\n"), &[]);
        assert!(
            lines.len() == 1 && lines[0].starts_with(start),
            "{lines:?} for {text}"
        );
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = format!("{LEAST}[registration]\nmode = \"open\"\n");
    let variables = [
        ("MEYRIN_SERVER_NAME", "other.example"),
        ("MEYRIN_REGISTRATION__MODE", "closed"),
        ("MEYRIN_REGISTRATION__TOKENS", "[\"a\", \"b\"]"),
        ("MEYRIN_REGISTRATION__SHARED_SECRET", "123"),
        ("MEYRIN_LIMITS__ENABLED", "false"),
        ("MEYRIN_LIMITS__MESSAGE", "{ per_second = 1, burst = 2 }"),
        (
            "MEYRIN_LISTEN",
            "[{ bind = \"0.0.0.0:1\", apis = [\"admin\"] }]",
        ),
        ("MEYRIN_HTTP__BODY_TIMEOUT", "2min"),
        ("PATH", "/bin"),
    ];
    let config = load_with(&text, &variables).expect("a good configuration");
    assert_eq!(config.server_name.as_str(), "other.example");
    assert_eq!(config.registration.mode, RegistrationMode::Closed);
    assert_eq!(config.registration.tokens.len(), 2);
    assert_eq!(
        config
            .registration
            .shared_secret
            .as_ref()
            .map(|s| s.reveal()),
        Some("123")
    );
    assert!(!config.limits.enabled);
    assert_eq!(config.limits.message, Rate::new(1.0, 2));
    assert!(config.listen.len() == 1 && config.listen[0].apis.contains(Api::Admin));
    assert_eq!(config.http.body_timeout, Duration::from_secs(120));
}

#[test]
fn mistakes_in_the_environment_are_refused_by_the_name_of_the_variable() {
    let variables = [
        ("MEYRIN_DATA_DRI", "/x"),
        ("MEYRIN_LIMIT__ENABLED", "false"),
        ("MEYRIN_STORAGE__SYNC", "maybe"),
        ("MEYRIN_STORAGE__SINC", "always"),
    ];
    let lines = complaint(LEAST, &variables);
    let expected = [
        "environment variable MEYRIN_DATA_DRI: no key is called `data_dri`; did you mean MEYRIN_DATA_DIR?",
        "environment variable MEYRIN_LIMIT__ENABLED: no section is called `limit`; did you mean `limits`?",
        "environment variable MEYRIN_STORAGE__SINC: unknown key `storage.sinc`; did you mean `storage.sync`?",
        "environment variable MEYRIN_STORAGE__SYNC: `storage.sync` is \"maybe\", but must be one of \"always\", \"interval\", \"never\"",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn variables_of_other_programs_are_left_alone() {
    let variables = [
        ("MEYRIN_PORT", "tcp://10.0.0.1:80"),
        ("MEYRIN_SERVICE_HOST", "10.0.0.1"),
        ("MEYRIN_CONFIG", "meyrin.toml"),
        ("MEYRIN_BIN", "/usr/bin/meyrin"),
        ("MEYRIN_LOG", "info"),
        ("MEYRIN_BUILD_CACHE", "/tmp"),
    ];
    assert_eq!(
        load_with(LEAST, &variables).expect("a good configuration"),
        load(LEAST)
    );
}

#[test]
fn a_reload_knows_what_changed_and_what_waits_for_a_restart() {
    let old = load(LEAST);
    let new = load(&format!(
        "{LEAST}data_dir = \"/elsewhere\"\n[registration]\nshared_secret = \"s\"\n[log]\nlevel = \"debug\"\n"
    ));
    assert_eq!(old.changes(&old), []);
    let changes: Vec<(String, bool)> = old
        .changes(&new)
        .into_iter()
        .map(|change| (change.key, change.live))
        .collect();
    let expected = [
        ("data_dir", false),
        ("registration.shared_secret", true),
        ("log.level", true),
    ];
    assert_eq!(changes, expected.map(|(key, live)| (key.to_owned(), live)));
}

#[test]
fn secrets_are_not_shown() {
    let config = load(&format!(
        "{LEAST}[registration]\nshared_secret = \"quiet\"\n"
    ));
    assert!(!format!("{config:?}").contains("quiet"));
}

#[test]
fn server_names_are_those_of_the_specification() {
    for good in [
        "example.org",
        "a",
        "1.2.3.4",
        "1.2.3.4:80",
        "[::1]",
        "[2001:db8::1]:8448",
        "example.org:8448",
    ] {
        assert!(config::ServerName::new(good).is_some(), "{good}");
    }
    let long = "a".repeat(231);
    let bad = [
        "",
        "exa mple",
        "example.org:",
        "example.org:99999",
        "example.org:+80",
        "[::1",
        "[nonsense]",
        "[::1]8448",
        ":80",
        "ä.example",
        "a:1:2",
        &long,
    ];
    for bad in bad {
        assert!(config::ServerName::new(bad).is_none(), "{bad}");
    }
}
