//! Rooms that are entered before their members are known.

use event::RoomVersion;
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, PeerRoom, Server, ServerOptions, SyncAnswer, User, encode, until};

use crate::{hosted, server};

const LAZY: &str = r#"{"room":{"state":{"lazy_load_members":true}}}"#;

/// A room of a peer with some members, of whom only the host is given to who joins.
pub struct Large {
    pub peer: Peer,
    pub room: PeerRoom,
    pub host: String,
    pub members: Vec<String>,
}

pub fn large(members: usize) -> Large {
    let (peer, room, host) = hosted(RoomVersion::V11);
    let members: Vec<String> = (0..members)
        .map(|n| peer.user(&format!("member{n}")))
        .collect();
    for member in &members {
        let join = json!({"membership": "join"});
        room.event(member, "m.room.member", Some(member), join);
    }
    room.omit_members_but(&[&host]);
    let large = Large {
        peer,
        room,
        host,
        members,
    };
    large.withhold();
    large
}

impl Large {
    /// From now on the peer does not tell the state.
    pub fn withhold(&self) {
        for name in ["state", "state_ids"] {
            let path = format!("/_matrix/federation/v1/{name}/{}", encode(&self.room.id()));
            self.peer
                .on("GET", &path, |_| PeerAnswer::error(404, "M_NOT_FOUND"));
        }
    }

    /// From now on it does.
    pub fn tell(&self) {
        self.room.host(&self.peer);
    }

    pub fn join(&self, user: &User) {
        let (room, via) = (encode(&self.room.id()), encode(self.peer.name()));
        user.post(&format!("/v3/join/{room}?via={via}"), json!({}))
            .ok();
    }

    pub fn send(&self, server: &Server, event: &Value) {
        let answer = self
            .peer
            .send(server, std::slice::from_ref(event), &[])
            .ok();
        let id = self.room.event_id(event);
        assert_eq!(answer["pdus"][&id], json!({}), "it is taken or held");
    }

    pub fn all_members_are_listed(&self, user: &User) {
        let path = format!("/v3/rooms/{}/joined_members", encode(&self.room.id()));
        let joined = user.get(&path).ok();
        let joined = joined["joined"]
            .as_object()
            .map_or(0, |joined| joined.len());
        assert_eq!(joined, self.members.len() + 2);
    }
}

pub fn lazily(user: &User, since: Option<&str>) -> SyncAnswer {
    user.sync(since, &format!("&filter={}", encode(LAZY)))
}

pub fn no_problems(server: &mut Server) {
    server.terminate();
    let checked = server.run(&["db", "check"]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
}

#[test]
fn a_room_is_used_before_its_members_are_known_and_shown_to_all_clients_after() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(6);
    let (room, peer) = (&large.room, &large.peer);
    let before = alice.sync(None, "");
    large.join(&alice);
    let asked = &peer.requests("/_matrix/federation/v2/send_join/")[0];
    assert_eq!(asked.query("omit_members"), ["true"]);

    // Who loads members lazily sees the room; who does not sees nothing of it yet.
    let shown = lazily(&alice, None);
    assert_eq!(
        shown.joined(&room.id())["summary"]["m.joined_member_count"],
        2
    );
    assert!(alice.sync(None, "").joined(&room.id()).is_null());
    let mine = alice.say(&room.id(), "Here I am");
    let sent = peer.pdu("the message", |pdu| pdu["content"]["body"] == "Here I am");
    assert_eq!(room.event_id(&sent), mine);
    room.take(&sent);

    // What can be judged is shown at once, what can't is held.
    let known = room.say(&large.host, "Welcome");
    large.send(&server, &known);
    let unknown = room.say(&large.members[0], "Good morning");
    large.send(&server, &unknown);
    let after = room.say(&large.host, "I second that");
    large.send(&server, &after);
    let news = lazily(&alice, Some(shown.next_batch()));
    let ids = news.event_ids(&room.id());
    assert!(ids.contains(&room.event_id(&known).as_str()), "{ids:?}");
    assert!(!ids.contains(&room.event_id(&unknown).as_str()), "{ids:?}");
    assert!(!ids.contains(&room.event_id(&after).as_str()), "{ids:?}");
    let jobs = server.run(&["job", "list"]);
    let jobs = String::from_utf8_lossy(&jobs.stdout).into_owned();
    assert!(
        jobs.contains(&format!("fetch_members\t{}\t", room.id())),
        "{jobs}"
    );

    // Others can't join by this server, and are not told what it does not know.
    let user = encode(&peer.user("another"));
    let id = encode(&room.id());
    let path = format!("/_matrix/federation/v1/make_join/{id}/{user}?ver=11");
    peer.get(&server, &path)
        .error(404, "M_UNABLE_TO_GRANT_JOIN");
    let path = format!(
        "/_matrix/federation/v1/state_ids/{id}?event_id={}",
        encode(&mine)
    );
    peer.get(&server, &path).error(404, "M_NOT_FOUND");

    large.tell();
    large.all_members_are_listed(&alice);
    for held in [&unknown, &after] {
        let event_id = room.event_id(held);
        until("what was held is shown", || {
            let news = lazily(&alice, Some(news.next_batch()));
            news.event(&room.id(), &event_id).is_some().then_some(())
        });
    }
    let complete = lazily(&alice, Some(news.next_batch()));
    let summary = &complete.joined(&room.id())["summary"];
    assert_eq!(summary["m.joined_member_count"], 8);
    let whole = alice.sync(Some(before.next_batch()), "");
    let members = whole
        .state(&room.id())
        .iter()
        .chain(whole.timeline(&room.id()));
    let members = members.filter(|event| event["type"] == "m.room.member");
    assert_eq!(members.count(), 8);
    no_problems(&mut server);
}

#[test]
fn a_room_of_which_the_members_come_at_once_is_complete_when_the_join_is_answered() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(3);
    large.tell();
    large.join(&alice);
    large.all_members_are_listed(&alice);
    let requests = large.peer.requests("/_matrix/federation/v1/state_ids/");
    assert_eq!(requests.len(), 1);
    no_problems(&mut server);
}

#[test]
fn learning_the_members_goes_on_after_a_restart_with_what_was_held() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(130);
    let room = &large.room;
    large.join(&alice);
    let unknown = room.say(&large.members[7], "Good morning");
    large.send(&server, &unknown);
    // They are told which there are, and not given.
    let path = format!("/_matrix/federation/v1/state_ids/{}", encode(&room.id()));
    let asked = large.peer.requests(&path).len();
    large.tell();
    let path_of_state = format!("/_matrix/federation/v1/state/{}", encode(&room.id()));
    large.peer.on("GET", &path_of_state, |_| {
        PeerAnswer::error(500, "M_UNKNOWN")
    });
    until("it is asked again", || {
        (large.peer.requests(&path).len() > asked).then_some(())
    });
    server.kill();
    large.tell();
    server.start_again();
    let event_id = room.event_id(&unknown);
    until("what was held is shown", || {
        let shown = lazily(&alice, None);
        shown.event(&room.id(), &event_id).is_some().then_some(())
    });
    large.all_members_are_listed(&alice);
    no_problems(&mut server);
}

#[test]
fn a_server_that_gives_all_members_is_entered_as_ever() {
    let mut server = server();
    let alice = server.register("alice");
    let (peer, room, _) = hosted(RoomVersion::V12);
    let path = format!(
        "/v3/join/{}?via={}",
        encode(&room.id()),
        encode(peer.name())
    );
    alice.post(&path, json!({})).ok();
    let plain = alice.sync(None, "");
    assert!(plain.joined(&room.id()).is_object());
    assert!(peer.requests("/_matrix/federation/v1/state").is_empty());
    no_problems(&mut server);
}

#[test]
fn an_operator_may_have_all_rooms_entered_with_their_members() {
    let options = ServerOptions {
        federation: "faster_joins = false\n".to_owned(),
        ..ServerOptions::new(env!("CARGO_BIN_EXE_meyrin"))
    };
    let mut server = Server::start(options.federated());
    let alice = server.register("alice");
    let large = large(6);
    large.join(&alice);
    let asked = &large.peer.requests("/_matrix/federation/v2/send_join/")[0];
    assert_eq!(asked.query("omit_members"), ["false"]);
    large.all_members_are_listed(&alice);
    assert!(
        large
            .peer
            .requests("/_matrix/federation/v1/state")
            .is_empty()
    );
    no_problems(&mut server);
}
