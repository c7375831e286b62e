//! What depends on the configuration, and what the process does: registration modes, rate limits,
//! the shared secret, restarts, and the command line beside a running server.

use serde_json::{Value, json};
use testkit::{Client, Response, Server};

use crate::sliding_sync::Sliding;
use crate::{options, server};

fn register(client: &Client, auth: Value) -> Response {
    let body = json!({"username": "newcomer", "password": "a long password", "auth": auth});
    client.post("/v3/register", body)
}

#[test]
fn closed_registration_lets_nobody_in() {
    let mut options = options();
    options.registration = "closed".to_owned();
    let server = Server::start(options);
    register(&server.client(), json!({"type": "m.login.dummy"})).error(403, "M_FORBIDDEN");
}

#[test]
fn registration_by_token_asks_for_one() {
    let mut options = options();
    options.registration = "token".to_owned();
    options.tokens = vec!["let me in".to_owned()];
    let server = Server::start(options);
    let client = server.client();
    let asked = client.post("/v3/register", json!({}));
    assert_eq!(asked.status, 401, "{asked}");
    let flows = asked.value()["flows"].clone();
    assert_eq!(
        flows[0]["stages"][0], "m.login.registration_token",
        "{flows}"
    );
    let with = |token: &str| {
        json!({
            "type": "m.login.registration_token", "token": token,
            "session": asked.value()["session"],
        })
    };
    let wrong = register(&client, with("nonsense"));
    assert_eq!(wrong.status, 401, "{wrong}");
    let path = "/v1/register/m.login.registration_token/validity?token=";
    assert_eq!(
        client.get(&format!("{path}let%20me%20in")).ok()["valid"],
        true
    );
    assert_eq!(client.get(&format!("{path}nonsense")).ok()["valid"], false);
    register(&client, with("let me in")).ok();
}

/// The code that proves the shared secret: HMAC-SHA1 over the fields, by the system's `openssl`.
pub fn proof(secret: &str, message: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha1", "-hmac", secret, "-binary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut input = openssl.stdin.take().expect("an input");
    input
        .write_all(message.as_bytes())
        .expect("the message is taken");
    drop(input);
    let output = openssl.wait_with_output().expect("openssl ends").stdout;
    output.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_shared_secret_makes_accounts_where_registration_is_closed() {
    let mut options = options();
    options.registration = "closed".to_owned();
    options.shared_secret = Some("a secret".to_owned());
    let server = Server::start(options);
    let client = server.client();
    let path = "/_synapse/admin/v1/register";
    let attempt = |secret: &str| {
        let nonce = client.get(path).ok()["nonce"]
            .as_str()
            .expect("a nonce")
            .to_owned();
        let fields = format!("{nonce}\0newcomer\0a long password\0notadmin");
        let body = json!({
            "nonce": nonce, "username": "newcomer", "password": "a long password",
            "admin": false, "mac": proof(secret, &fields),
        });
        (client.post(path, body.clone()), client.post(path, body))
    };
    let (wrong, _) = attempt("another secret");
    wrong.error(403, "M_FORBIDDEN");
    let (account, again) = attempt("a secret");
    let account = account.ok();
    assert_eq!(account["user_id"], format!("@newcomer:{}", server.name()));
    let token = account["access_token"].as_str().expect("a token");
    client.with_token(token).get("/v3/account/whoami").ok();
    assert_eq!(again.status, 400, "a nonce is good for once: {again}");
}

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let mut options = options();
    options.limits = true;
    let server = Server::start(options);
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let limited = (0..500)
        .map(|_| {
            user.try_send(
                &room,
                "m.room.message",
                json!({"msgtype": "m.text", "body": "x"}),
            )
        })
        .find(|answer| answer.status != 200)
        .expect("a limit is reached");
    let error = limited.error(429, "M_LIMIT_EXCEEDED");
    assert!(
        error["retry_after_ms"]
            .as_u64()
            .is_some_and(|wait| wait > 0),
        "{error}"
    );
    let wait: u64 = limited
        .header("retry-after")
        .and_then(|wait| wait.parse().ok())
        .expect("it");
    assert!(wait >= 1);
}

#[test]
fn connections_of_sliding_sync_begin_anew_after_a_restart() {
    let mut server = server();
    let alice = server.register("alice");
    let room = alice.create_room(json!({}));
    let mut sliding = Sliding::all(&alice, 1, json!([]));
    sliding.next();
    server.kill();
    server.start_again();
    sliding.try_next(0).error(400, "M_UNKNOWN_POS");
    let answer = Sliding::all(&alice, 1, json!([])).next();
    assert_eq!(answer["rooms"][&room]["initial"], true);
}

#[test]
fn everything_is_there_after_a_restart() {
    let mut server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"preset": "public_chat", "name": "The room"}));
    bob.join(&room);
    let since = bob.sync(None, "").next_batch().to_owned();
    let id = alice.say(&room, "before the restart");
    let path = format!("/v3/user/{}/account_data/org.example.setting", alice.id);
    alice.put(&path, json!({"n": 1})).ok();
    assert!(
        server.terminate().success(),
        "SIGTERM ends it in good order"
    );
    server.start_again();
    assert_eq!(
        bob.sync(Some(&since), "").event_ids(&room),
        [id.as_str()],
        "tokens stay good"
    );
    assert_eq!(alice.get(&path).ok(), json!({"n": 1}));
    assert_eq!(bob.state(&room, "m.room.name", "").ok()["name"], "The room");
    bob.say(&room, "after the restart");
}

#[test]
fn long_polls_are_answered_when_the_server_ends() {
    let mut server = server();
    let user = server.register("alice");
    let mut follower = user.follow_from_now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || follower.next(30_000));
        // It waits as soon as the server has accepted its connection; a request made after it has
        // been answered proves that it had the time to.
        user.get("/v3/account/whoami").ok();
        let begin = std::time::Instant::now();
        assert!(server.terminate().success());
        assert!(begin.elapsed() < std::time::Duration::from_secs(10));
        drop(waiting.join());
    });
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let server = server();
    let output = server.run(&["serve"]);
    assert!(!output.status.success());
    server.client().get("/versions").ok();
}

#[test]
fn the_database_is_clean_after_work_and_says_so() {
    let mut server = server();
    let (alice, bob, room) = crate::pair(&server);
    for number in 0..20 {
        let id = alice.say(&room, &format!("message {number}"));
        bob.send(
            &room,
            "m.reaction",
            json!({"m.relates_to": {
                "rel_type": "m.annotation", "event_id": id, "key": "x",
            }}),
        );
        if number % 5 == 0 {
            alice.redact(&room, &id);
        }
    }
    bob.leave(&room);
    assert!(server.terminate().success());
    let check = server.run(&["db", "check"]);
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
}

#[test]
fn a_configuration_with_a_mistake_is_refused_before_anything_is_started() {
    let directory = std::env::temp_dir().join(format!("meyrin-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("meyrin.toml");
    std::fs::write(&file, "server_name = \"a.example\"\nserver_nam = 1\n").expect("a file");
    let output = std::process::Command::new(options().binary)
        .args(["config", "check", "--config"])
        .arg(&file)
        .output()
        .expect("the binary runs");
    std::fs::remove_dir_all(&directory).expect("it is removed");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("server_nam") && said.contains("2"),
        "it names key and line: {said}"
    );
}

#[test]
fn random_bytes_on_the_socket_harm_nobody() {
    use std::io::{Read as _, Write as _};
    let server = server();
    let address = server.url().trim_start_matches("http://").to_owned();
    for noise in [
        &b"\0\xff\x16\x03\x01"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST\r\n\r\n",
        b"\r\n\r\n",
    ] {
        let mut socket = std::net::TcpStream::connect(&address).expect("a connection");
        socket
            .set_read_timeout(Some(testkit::LIMIT))
            .expect("a timeout");
        socket.write_all(noise).expect("written");
        socket
            .shutdown(std::net::Shutdown::Write)
            .expect("shut down");
        let mut answer = Vec::new();
        // The server may answer or hang up; either is well.
        let _ = socket.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{answer:?}"
        );
    }
    server.client().get("/versions").ok();
}
