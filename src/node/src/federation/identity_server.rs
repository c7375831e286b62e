//! Identity servers: finding out whom an address belongs to, and leaving an invitation for whoever proves that it is
//! theirs.
//! <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>
//!
//! Which server is asked is the client's choice, among those that `identity_servers.allowed` lets through; the token is
//! the client's as well, and goes to that server alone. The address is sent in clear only to leave an invitation, where
//! there is no other way; looking it up takes its hash.

use std::time::Duration;

use bytes::Bytes;
use event::{VerifyKey, canonical, hash, identifier, json, signature};
use names::RoomSn;
use remote::{RemoteError, path};
use rooms::about::About;
use rooms::{NewEvent, RoomWriter, Sender, membership, send, state};
use serde::Deserialize;
use serde_json::{Map, Value, json as value};
use store::Read;

use crate::federation::Proof;
use crate::federation::fetch::read;
use crate::room::member_profile;
use crate::{Node, NodeError};

/// How long one request to an identity server may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The most bytes of an answer.
const MOST_ANSWER_BYTES: usize = 64 << 10;

/// The most keys of an identity server for one invitation; there are two.
const MOST_KEYS: usize = 10;

/// The longest token that stands for an invitation, in bytes.
const MOST_TOKEN_BYTES: usize = 255;

/// An address outside of Matrix, and the identity server that is to know whose it is.
#[derive(Clone, Debug, Deserialize)]
pub struct Address {
    /// `id_server`: its host, with a port if need be.
    pub id_server: String,
    /// `id_access_token`: the user's token there.
    pub id_access_token: String,
    /// `medium`: `email`, `msisdn`.
    pub medium: String,
    /// `address`.
    pub address: String,
}

impl Address {
    /// The address as it is compared.
    /// <https://spec.matrix.org/v1.19/appendices/#3pid-types>
    fn comparable(&self) -> String {
        match self.medium.as_str() {
            "email" => self.address.to_lowercase(),
            _ => self.address.clone(),
        }
    }

    /// What stands for the address in a question.
    fn hashed(&self, pepper: &str) -> String {
        let text = format!("{} {} {pepper}", self.comparable(), self.medium);
        let hash = hash::base64_encode(&hash::sha256(text.as_bytes()));
        hash.replace('+', "-").replace('/', "_")
    }

    fn url(&self, endpoint: &str) -> String {
        format!("https://{}/_matrix/identity/v2/{endpoint}", self.id_server)
    }
}

/// What an identity server makes of an invitation.
#[derive(Debug, Deserialize)]
struct Stored {
    token: String,
    #[serde(default)]
    public_keys: Vec<PublicKey>,
    /// What servers of before had instead.
    public_key: Option<String>,
    display_name: String,
}

#[derive(Clone, Debug, Deserialize, serde::Serialize)]
struct PublicKey {
    public_key: String,
    key_validity_url: String,
}

impl Stored {
    fn checked(self) -> Result<Self, RemoteError> {
        let is_token = (1..=MOST_TOKEN_BYTES).contains(&self.token.len())
            && self
                .token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".=_-".contains(&byte));
        let has_keys = !self.public_keys.is_empty() || self.public_key.is_some();
        match is_token && has_keys && self.public_keys.len() <= MOST_KEYS {
            true => Ok(self),
            false => Err(RemoteError::BadAnswer("no invitation".to_owned())),
        }
    }

    /// The content of the `m.room.third_party_invite` event.
    fn content(mut self, validity_url: String) -> Value {
        if let Some(public_key) = self.public_key {
            let key = PublicKey {
                public_key,
                key_validity_url: validity_url,
            };
            self.public_keys.push(key);
        }
        let mut content = value!({
            "display_name": self.display_name,
            "public_keys": self.public_keys,
        });
        // "The fields ... are kept for backwards compatibility": one key, which need not be repeated.
        if let Some(first) = self.public_keys.first() {
            content["public_key"] = first.public_key.as_str().into();
            content["key_validity_url"] = first.key_validity_url.as_str().into();
        }
        content
    }
}

impl Node {
    /// Whether users of this server may use an identity server; nothing if they may use none at all.
    pub fn allows_identity_server(&self, id_server: &str) -> Option<bool> {
        let config = self.config();
        let allowed = &config.identity_servers.allowed;
        let is_allowed = identifier::is_server_name(id_server)
            && allowed
                .iter()
                .any(|pattern| pattern.matches_server(id_server));
        (!allowed.is_empty()).then_some(is_allowed)
    }

    /// Whose an address is, if anybody has said so.
    ///
    /// # Errors
    /// [`NodeError::Remote`] if the identity server refuses, or does not answer as it should.
    pub async fn whose_address(&self, address: &Address) -> Result<Option<String>, NodeError> {
        let mapped = match self.look_up(address).await {
            // The pepper was changed between the two requests.
            Err(RemoteError::Refused { errcode, .. }) if errcode == "M_INVALID_PEPPER" => {
                self.look_up(address).await?
            }
            answered => answered?,
        };
        match mapped {
            Some(user_id) if !identifier::is_user_id(&user_id) => {
                Err(RemoteError::BadAnswer("an address of no user".to_owned()).into())
            }
            mapped => Ok(mapped),
        }
    }

    async fn look_up(&self, address: &Address) -> Result<Option<String>, RemoteError> {
        #[derive(Deserialize)]
        struct Details {
            lookup_pepper: String,
            algorithms: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Found {
            mappings: Map<String, Value>,
        }
        let details = self.ask_identity_server(address, "hash_details", None);
        let details: Details = read(&details.await?)?;
        if !details.algorithms.iter().any(|of| of == "sha256") {
            let why = "it would take the address in clear";
            return Err(RemoteError::BadAnswer(why.to_owned()));
        }
        let hashed = address.hashed(&details.lookup_pepper);
        let question = value!({
            "addresses": [hashed], "algorithm": "sha256", "pepper": details.lookup_pepper,
        });
        let found = self.ask_identity_server(address, "lookup", Some(&question));
        let found: Found = read(&found.await?)?;
        let user_id = found.mappings.get(&hashed);
        Ok(user_id.and_then(Value::as_str).map(str::to_owned))
    }

    async fn ask_identity_server(
        &self,
        address: &Address,
        endpoint: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, RemoteError> {
        let (url, token) = (
            address.url(endpoint),
            Some(address.id_access_token.as_str()),
        );
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.remote()
            .ask_web(&url, token, body, PATIENCE, MOST_ANSWER_BYTES)
            .await
    }

    /// Whether a user may invite into a room, before anybody outside is told of it.
    ///
    /// # Errors
    /// [`rooms::Error::Forbidden`].
    pub fn must_be_able_to_invite(
        &self,
        room: RoomSn,
        sender: Sender<'_>,
    ) -> Result<(), rooms::Error> {
        let mut txn = self.begin();
        membership::must_be_joined(&txn, room, sender)?;
        let writer = RoomWriter::open(&mut txn, self.room_context(), room)?;
        let may_invite =
            writer.with_power_levels(|levels| levels.user(sender.user_id) >= levels.invite())?;
        match may_invite {
            true => Ok(()),
            false => Err(rooms::Error::Forbidden("inviting needs a higher level")),
        }
    }

    /// Leaves an invitation with the identity server, for whoever proves that the address is theirs, and says so in the
    /// room.
    ///
    /// # Errors
    /// [`NodeError::Remote`] if the identity server refuses, or does not answer as it should; and those of sending a
    /// state event.
    pub async fn invite_address(
        &self,
        room: RoomSn,
        sender: Sender<'_>,
        address: &Address,
    ) -> Result<(), NodeError> {
        let invitation = self.description(room, sender, address)?;
        let stored = self.ask_identity_server(address, "store-invite", Some(&invitation));
        let stored: Stored = read(&stored.await?)?;
        let stored = stored.checked()?;
        let token = stored.token.clone();
        let content = stored.content(address.url("pubkey/isvalid")).to_string();
        let new = NewEvent::state(sender, "m.room.third_party_invite", &token, &content);
        self.change_room(room, |writer| -> Result<(), NodeError> {
            send::state(writer, &new)?;
            Ok(())
        })
        .await
    }

    /// What the invited is told of the room, and by whom.
    fn description(
        &self,
        room: RoomSn,
        sender: Sender<'_>,
        address: &Address,
    ) -> Result<Value, NodeError> {
        let view = self.view();
        let about = About::read(&view, room)?;
        let profile = member_profile(&view, sender.user)?;
        let mut told = value!({
            "medium": address.medium, "address": address.comparable(), "room_id": about.room_id,
            "sender": sender.user_id, "room_join_rules": about.join_rule,
            "sender_display_name": profile.displayname.as_deref().unwrap_or(sender.user_id),
        });
        for (key, said) in [
            ("room_alias", about.canonical_alias),
            ("room_avatar_url", about.avatar_url),
            ("room_name", about.name),
            ("room_type", about.room_type),
            ("sender_avatar_url", profile.avatar_url),
        ] {
            if let Some(said) = said {
                told[key] = said.into();
            }
        }
        Ok(told)
    }

    /// Asks whoever made the key of a proof whether it is still good: "H1 MUST verify ... the `key_validity_url` as still
    /// being valid". Nobody else may: all servers have to come to the same result.
    ///
    /// # Errors
    /// [`rooms::Error::Forbidden`] if the key is not good any more; [`NodeError::Remote`] if nobody says so. Where no key
    /// of the room's made the proof there is nothing to ask: the authorisation rules refuse it.
    pub(crate) async fn key_must_be_good(
        &self,
        room: RoomSn,
        proof: &Proof,
    ) -> Result<(), NodeError> {
        #[derive(Deserialize)]
        struct Answer {
            valid: bool,
        }
        let Some(key) = key_of(&self.store().head(), room, proof)? else {
            return Ok(());
        };
        let url = key.key_validity_url.split('#').next().unwrap_or_default();
        // The path of no URL, only its query.
        let query = path("", &[], &[("public_key", &key.public_key)]);
        let url = match url.contains('?') {
            true => format!("{url}&{}", query.trim_start_matches('?')),
            false => format!("{url}{query}"),
        };
        let answer = self
            .remote()
            .ask_web(&url, None, None, PATIENCE, MOST_ANSWER_BYTES)
            .await?;
        match read::<Answer>(&answer)?.valid {
            true => Ok(()),
            false => {
                let why = "the identity server's key is not valid any more";
                Err(rooms::Error::Forbidden(why).into())
            }
        }
    }
}

/// The key of the room's `m.room.third_party_invite` event that made the proof.
fn key_of(
    from: &impl Read,
    room: RoomSn,
    proof: &Proof,
) -> Result<Option<PublicKey>, rooms::Error> {
    let offer = state::current(from, room, "m.room.third_party_invite", &proof.token)?;
    let Some(offer) = offer else { return Ok(None) };
    let Some(event) = rooms::event_log::get(from, room, offer)? else {
        return Ok(None);
    };
    let content = json::member(&event.json, "content").unwrap_or("{}");
    let mut keys: Vec<PublicKey> = Vec::new();
    // Each by itself: one that is no key does not spoil the others.
    keys.extend(serde_json::from_str::<PublicKey>(content));
    let listed = json::member(content, "public_keys").filter(|list| json::is_array(list));
    for key in listed.into_iter().flat_map(json::elements).take(MOST_KEYS) {
        keys.extend(serde_json::from_str::<PublicKey>(key));
    }
    let Ok(signed) = serde_json::to_value(proof) else {
        return Ok(None);
    };
    let Ok(signed) = canonical::to_bytes(&signed) else {
        return Ok(None);
    };
    let signed = String::from_utf8(signed).unwrap_or_default();
    let made_it = |public_key: &str| {
        let Some(key) = VerifyKey::from_any_base64(public_key) else {
            return false;
        };
        proof.signatures.keys().any(|server| {
            let keys = |_: &str, _: &str| Some(key);
            signature::verify_object(&signed, server, &keys).is_ok()
        })
    };
    Ok(keys.into_iter().find(|key| made_it(&key.public_key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(medium: &str, address: &str) -> Address {
        Address {
            id_server: "id.example".to_owned(),
            id_access_token: "token".to_owned(),
            medium: medium.to_owned(),
            address: address.to_owned(),
        }
    }

    /// The examples of <https://spec.matrix.org/v1.19/identity-service-api/#sha256>.
    #[test]
    fn addresses_are_hashed_as_the_specification_has_it() {
        for (medium, text, hash) in [
            (
                "email",
                "alice@example.com",
                "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc",
            ),
            (
                "email",
                "Bob@Example.com",
                "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8",
            ),
            (
                "msisdn",
                "18005552067",
                "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I",
            ),
        ] {
            assert_eq!(address(medium, text).hashed("matrixrocks"), hash);
        }
    }

    #[test]
    fn an_invitation_needs_a_token_that_can_be_a_state_key_and_a_key() {
        let stored = |token: &str, keys: Value| -> bool {
            let stored = value!({"token": token, "public_keys": keys, "display_name": "f..."});
            let stored: Stored = serde_json::from_value(stored).expect("of its form");
            stored.checked().is_ok()
        };
        let key = value!([{"public_key": "k", "key_validity_url": "https://id.example/v"}]);
        assert!(stored("a.b=c_d-E9", key.clone()));
        assert!(!stored("", key.clone()));
        assert!(!stored("a b", key.clone()));
        assert!(!stored(&"a".repeat(256), key));
        assert!(!stored("abc", value!([])));
    }
}
