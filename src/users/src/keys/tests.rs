//! Device keys, cross-signing and signatures, with real keys.

use event::SigningKey;
use serde_json::{Value, json};
use store::{Position, Read, Store};

use super::cross_signing::{Upload, needs_authentication};
use super::query::{UserKeys, Viewer, user_keys};
use super::*;
use crate::testing::{commit, store};
use crate::{Error, devices};

mod remote;

const ALICE: Owner<'static> = Owner {
    user: UserSn(1),
    user_id: "@alice:x",
};
const BOB: Owner<'static> = Owner {
    user: UserSn(2),
    user_id: "@bob:x",
};

/// A key pair, from its number.
struct Pair(SigningKey);

impl Pair {
    fn new(seed: u8) -> Self {
        Self(SigningKey::from_seed("x", "1", [seed; 32]).unwrap())
    }

    fn public(&self) -> String {
        self.0.verify_key().to_base64()
    }

    fn key_id(&self) -> String {
        format!("ed25519:{}", self.public())
    }

    /// Signs as clients do, under the name `ed25519:` and the public key, or the device id.
    fn sign_as(&self, user_id: &str, key_id: &str, object: &Value) -> Value {
        let mut body = object.clone();
        for name in ["signatures", "unsigned"] {
            body.as_object_mut().unwrap().remove(name);
        }
        let bytes = event::canonical::to_bytes(&body).unwrap();
        let mut signed = object.clone();
        signed["signatures"][user_id][key_id] = self.0.sign_bytes(&bytes).into();
        signed
    }

    fn sign(&self, owner: Owner<'_>, object: &Value) -> Value {
        self.sign_as(owner.user_id, &self.key_id(), object)
    }

    fn as_key(&self, owner: Owner<'_>, usage: &str) -> Value {
        json!({
            "user_id": owner.user_id,
            "usage": [usage],
            "keys": {self.key_id(): self.public()},
        })
    }

    fn as_device(&self, owner: Owner<'_>, device: &str) -> Value {
        let key_id = format!("ed25519:{device}");
        let keys = json!({
            "user_id": owner.user_id,
            "device_id": device,
            "algorithms": ["m.megolm.v1.aes-sha2"],
            "keys": {&key_id: self.public()},
        });
        self.sign_as(owner.user_id, &key_id, &keys)
    }
}

/// A user's cross-signing keys.
struct Identity {
    owner: Owner<'static>,
    master: Pair,
    self_signing: Pair,
    user_signing: Pair,
}

impl Identity {
    fn new(owner: Owner<'static>, seed: u8) -> Self {
        Self {
            owner,
            master: Pair::new(seed),
            self_signing: Pair::new(seed + 1),
            user_signing: Pair::new(seed + 2),
        }
    }

    fn master_key(&self) -> Value {
        self.master.as_key(self.owner, "master")
    }

    fn self_signing_key(&self) -> Value {
        let key = self.self_signing.as_key(self.owner, "self_signing");
        self.master.sign(self.owner, &key)
    }

    fn user_signing_key(&self) -> Value {
        let key = self.user_signing.as_key(self.owner, "user_signing");
        self.master.sign(self.owner, &key)
    }

    fn upload(&self, store: &Store) {
        let keys = [
            Some(self.master_key()),
            Some(self.self_signing_key()),
            Some(self.user_signing_key()),
        ];
        let upload = read(self.owner, keys).unwrap();
        commit(store, |txn| {
            assert!(cross_signing::upload(txn, self.owner, upload)?);
            Ok(())
        });
    }
}

fn read(owner: Owner<'_>, keys: [Option<Value>; 3]) -> Result<Upload> {
    let [master, self_signing, user_signing] = keys.map(|key| key.map(|key| key.to_string()));
    Upload::new(
        owner,
        master.as_deref(),
        self_signing.as_deref(),
        user_signing.as_deref(),
    )
}

fn try_upload(store: &Store, owner: Owner<'_>, keys: [Option<Value>; 3]) -> Result<bool> {
    cross_signing::upload(&mut store.begin(), owner, read(owner, keys)?)
}

fn upload_device(store: &Store, owner: Owner<'_>, device: &str, pair: &Pair) {
    let json = pair.as_device(owner, device).to_string();
    commit(store, |txn| {
        device_keys::upload(txn, owner, device, &json).map(drop)
    });
}

fn seen_by(store: &Store, viewer: Owner<'_>, owner: Owner<'_>) -> UserKeys {
    user_keys(&store.view(), Viewer::User(viewer), owner.user, &[]).unwrap()
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn changed(store: &Store, since: Position) -> Vec<UserSn> {
    device_lists::changed_since(&store.view(), since)
        .collect::<Result<_>>()
        .unwrap()
}

#[test]
fn device_keys_are_shown_as_uploaded_with_the_name_of_the_device() {
    let store = store();
    let pair = Pair::new(1);
    upload_device(&store, ALICE, "D", &pair);
    upload_device(&store, ALICE, "E", &Pair::new(2));
    commit(&store, |txn| {
        devices::log_in(txn, ALICE.user, "D", Some("A \"phone\""), 0).map(drop)
    });
    let all = user_keys(&store.view(), Viewer::User(BOB), ALICE.user, &[]).unwrap();
    assert_eq!(all.devices.len(), 2);
    let mut expected = pair.as_device(ALICE, "D");
    expected["unsigned"] = json!({"device_display_name": "A \"phone\""});
    assert_eq!(value(&all.devices[0].1), expected);
    let asked = ["E".to_owned(), "E".to_owned(), "none".to_owned()];
    let some = user_keys(&store.view(), Viewer::User(BOB), ALICE.user, &asked).unwrap();
    assert_eq!(some.devices.len(), 1);
    assert!(value(&some.devices[0].1).get("unsigned").is_none());
}

#[test]
fn device_keys_of_others_or_without_what_is_required_are_refused() {
    let store = store();
    let good = Pair::new(1).as_device(ALICE, "D");
    let try_upload = |keys: &Value, owner, device: &str| {
        device_keys::upload(&mut store.begin(), owner, device, &keys.to_string())
    };
    assert!(matches!(
        try_upload(&good, BOB, "D"),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        try_upload(&good, ALICE, "E"),
        Err(Error::Invalid(_))
    ));
    for name in ["user_id", "device_id", "algorithms", "keys", "signatures"] {
        for wrong in [None, Some(json!(1))] {
            let mut bad = good.clone();
            match wrong {
                None => drop(bad.as_object_mut().unwrap().remove(name)),
                Some(wrong) => bad[name] = wrong,
            }
            assert!(
                matches!(try_upload(&bad, ALICE, "D"), Err(Error::Malformed(_))),
                "{name}"
            );
        }
    }
    let mut large = good.clone();
    large["more"] = "x".repeat(70_000).into();
    assert!(matches!(
        try_upload(&large, ALICE, "D"),
        Err(Error::TooLarge(_))
    ));
    for text in ["[]", "nonsense", "{\"a\":1.5}"] {
        assert!(matches!(
            device_keys::upload(&mut store.begin(), ALICE, "D", text),
            Err(Error::Malformed(_))
        ));
    }
}

#[test]
fn the_same_device_keys_again_are_no_news() {
    let store = store();
    upload_device(&store, ALICE, "D", &Pair::new(1));
    let since = store.view().position();
    upload_device(&store, ALICE, "D", &Pair::new(1));
    assert_eq!(changed(&store, since), []);
    upload_device(&store, ALICE, "D", &Pair::new(2));
    assert_eq!(changed(&store, since), [ALICE.user]);
}

#[test]
fn a_removed_device_is_gone_and_announced_if_it_had_keys() {
    let store = store();
    upload_device(&store, ALICE, "D", &Pair::new(1));
    let since = store.view().position();
    commit(&store, |txn| remove_device(txn, ALICE.user, "without keys"));
    assert_eq!(changed(&store, since), []);
    commit(&store, |txn| remove_device(txn, ALICE.user, "D"));
    assert_eq!(changed(&store, since), [ALICE.user]);
    assert_eq!(seen_by(&store, ALICE, ALICE), UserKeys::default());
}

#[test]
fn cross_signing_keys_are_shown_but_the_user_signing_key_only_to_its_owner() {
    let store = store();
    let alice = Identity::new(ALICE, 10);
    alice.upload(&store);
    assert_eq!(changed(&store, Position::ZERO), [ALICE.user]);
    let own = seen_by(&store, ALICE, ALICE);
    assert_eq!(value(&own.master.unwrap()), alice.master_key());
    assert_eq!(value(&own.self_signing.unwrap()), alice.self_signing_key());
    assert_eq!(value(&own.user_signing.unwrap()), alice.user_signing_key());
    let others = seen_by(&store, BOB, ALICE);
    assert!(others.master.is_some() && others.self_signing.is_some());
    assert_eq!(others.user_signing, None);
}

#[test]
fn only_new_keys_beside_a_master_key_need_authentication() {
    let store = store();
    let alice = Identity::new(ALICE, 10);
    let needs = |keys| {
        let upload = read(ALICE, keys).unwrap();
        needs_authentication(&store.view(), ALICE.user, &upload).unwrap()
    };
    let all = || {
        [
            Some(alice.master_key()),
            Some(alice.self_signing_key()),
            Some(alice.user_signing_key()),
        ]
    };
    assert!(!needs(all()));
    assert!(!needs([None, None, None]));
    commit(&store, |txn| {
        let upload = read(ALICE, [Some(alice.master_key()), None, None])?;
        cross_signing::upload(txn, ALICE, upload).map(drop)
    });
    assert!(!needs([None, None, None]));
    assert!(!needs([Some(alice.master_key()), None, None]));
    assert!(needs(all()));
    assert!(needs([None, Some(alice.self_signing_key()), None]));
    alice.upload(&store);
    assert!(!needs(all()));
    let other = Identity::new(ALICE, 20);
    assert!(needs([Some(other.master_key()), None, None]));
    // A signature that came meanwhile does not make the key another one.
    let device = Pair::new(1);
    upload_device(&store, ALICE, "D", &device);
    let signed = device.sign_as(ALICE.user_id, "ed25519:D", &alice.master_key());
    commit(&store, |txn| {
        let id = alice.master.public();
        signatures::upload(txn, ALICE, ALICE.user, &id, &signed.to_string()).map(drop)
    });
    assert!(!needs(all()));
    let since = store.view().position();
    commit(&store, |txn| {
        assert!(!cross_signing::upload(txn, ALICE, read(ALICE, all())?)?);
        Ok(())
    });
    assert_eq!(changed(&store, since), []);
    assert_eq!(
        value(&seen_by(&store, ALICE, ALICE).master.unwrap()),
        signed
    );
}

#[test]
fn cross_signing_keys_of_a_wrong_form_or_signature_are_refused() {
    let store = store();
    let alice = Identity::new(ALICE, 10);
    let master = alice.master_key();
    let refused = |master: &Value| try_upload(&store, ALICE, [Some(master.clone()), None, None]);
    let with = |name: &str, value: Value| {
        let mut key = master.clone();
        key[name] = value;
        key
    };
    for bad in [
        with("user_id", json!("@bob:x")),
        with("usage", json!(["self_signing"])),
        with("usage", json!("master")),
        with("keys", json!({})),
        with("keys", json!({"ed25519:a": "a"})),
        with("keys", json!({"ed25519:a": alice.master.public()})),
        with("keys", json!({"curve25519:a": "a", "ed25519:b": "b"})),
    ] {
        assert!(matches!(refused(&bad), Err(Error::Invalid(_))), "{bad}");
    }
    assert!(matches!(
        refused(&with("signatures", json!(1))),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(
        try_upload(&store, ALICE, [None, Some(alice.self_signing_key()), None]),
        Err(Error::Missing(_))
    ));
    let unsigned = alice.self_signing.as_key(ALICE, "self_signing");
    let by_another = Pair::new(99).sign(ALICE, &unsigned);
    let mut altered = alice.self_signing_key();
    altered["more"] = json!(1);
    for bad in [unsigned, by_another, altered] {
        let upload = try_upload(&store, ALICE, [Some(master.clone()), Some(bad), None]);
        assert!(matches!(upload, Err(Error::InvalidSignature(_))));
    }
    upload_device(&store, ALICE, &alice.master.public(), &Pair::new(1));
    assert!(matches!(refused(&master), Err(Error::Forbidden(_))));
    upload_device(&store, ALICE, "D", &Pair::new(2));
    let other = Identity::new(ALICE, 30).master_key();
    let wrong = Pair::new(3).sign_as(ALICE.user_id, "ed25519:D", &other);
    assert!(matches!(refused(&wrong), Err(Error::InvalidSignature(_))));
}

#[test]
fn a_new_master_key_takes_the_keys_that_the_old_one_signed_with_it() {
    let store = store();
    Identity::new(ALICE, 10).upload(&store);
    let new = Identity::new(ALICE, 20);
    commit(&store, |txn| {
        let upload = read(
            ALICE,
            [Some(new.master_key()), Some(new.self_signing_key()), None],
        )?;
        cross_signing::upload(txn, ALICE, upload).map(drop)
    });
    let keys = seen_by(&store, ALICE, ALICE);
    assert_eq!(value(&keys.self_signing.unwrap()), new.self_signing_key());
    assert_eq!(keys.user_signing, None);
}

#[test]
fn a_device_signed_by_its_owner_is_shown_so_to_all() {
    let store = store();
    let alice = Identity::new(ALICE, 10);
    let device = Pair::new(1);
    let signed = alice
        .self_signing
        .sign(ALICE, &device.as_device(ALICE, "D"));
    let sign = |signed: &Value| {
        signatures::upload(
            &mut store.begin(),
            ALICE,
            ALICE.user,
            "D",
            &signed.to_string(),
        )
    };
    upload_device(&store, ALICE, "D", &device);
    assert!(matches!(sign(&signed), Err(Error::NotFound(_))));
    alice.upload(&store);
    let wrong = alice
        .user_signing
        .sign(ALICE, &device.as_device(ALICE, "D"));
    let mut other_device = signed.clone();
    other_device["keys"]["ed25519:D"] = "x".into();
    let forged = Pair::new(77).sign_as(
        ALICE.user_id,
        &alice.self_signing.key_id(),
        &device.as_device(ALICE, "D"),
    );
    for bad in [&wrong, &other_device, &forged] {
        assert!(
            matches!(sign(bad), Err(Error::InvalidSignature(_))),
            "{bad}"
        );
    }
    let since = store.view().position();
    for news in [true, false] {
        commit(&store, |txn| {
            let json = signed.to_string();
            assert_eq!(
                signatures::upload(txn, ALICE, ALICE.user, "D", &json)?,
                news
            );
            Ok(())
        });
    }
    assert_eq!(changed(&store, since), [ALICE.user]);
    for viewer in [ALICE, BOB] {
        assert_eq!(value(&seen_by(&store, viewer, ALICE).devices[0].1), signed);
    }
    // The device uploads its keys again, as it knows them: the signature stays.
    upload_device(&store, ALICE, "D", &device);
    assert_eq!(value(&seen_by(&store, BOB, ALICE).devices[0].1), signed);
}

#[test]
fn a_signature_over_another_user_is_seen_by_its_signer_alone() {
    let store = store();
    let (alice, bob) = (Identity::new(ALICE, 10), Identity::new(BOB, 20));
    alice.upload(&store);
    bob.upload(&store);
    let signed = alice.user_signing.sign(ALICE, &bob.master_key());
    let since = store.view().position();
    let upload = |id: &str, signed: &Value| {
        let mut txn = store.begin();
        signatures::upload(&mut txn, ALICE, BOB.user, id, &signed.to_string())
    };
    let bob_id = bob.master.public();
    assert!(matches!(upload("other", &signed), Err(Error::NotFound(_))));
    let by_master = alice.master.sign(ALICE, &bob.master_key());
    assert!(matches!(
        upload(&bob_id, &by_master),
        Err(Error::InvalidSignature(_))
    ));
    commit(&store, |txn| {
        assert!(signatures::upload(
            txn,
            ALICE,
            BOB.user,
            &bob_id,
            &signed.to_string()
        )?);
        Ok(())
    });
    assert_eq!(changed(&store, since), []);
    let told: Vec<_> = device_lists::signed_since(&store.view(), ALICE.user, since)
        .collect::<Result<_>>()
        .unwrap();
    assert_eq!(told, [BOB.user]);
    assert_eq!(value(&seen_by(&store, ALICE, BOB).master.unwrap()), signed);
    assert_eq!(
        value(&seen_by(&store, BOB, BOB).master.unwrap()),
        bob.master_key()
    );
    // Bob starts anew: what Alice said of his old key is not said of the new one.
    let anew = Identity::new(BOB, 40);
    anew.upload(&store);
    assert_eq!(
        value(&seen_by(&store, ALICE, BOB).master.unwrap()),
        anew.master_key()
    );
}

#[test]
fn signatures_of_keys_that_are_gone_do_not_pile_up() {
    let store = store();
    let alice = Identity::new(ALICE, 10);
    alice.upload(&store);
    let sign_master = |device: &str, pair: &Pair| {
        upload_device(&store, ALICE, device, pair);
        let id = format!("ed25519:{device}");
        let signed = pair.sign_as(ALICE.user_id, &id, &alice.master_key());
        commit(&store, |txn| {
            let key_id = alice.master.public();
            signatures::upload(txn, ALICE, ALICE.user, &key_id, &signed.to_string()).map(drop)
        });
    };
    let signers = |json: &str| {
        let signatures = value(json)["signatures"][ALICE.user_id].clone();
        signatures
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    sign_master("D1", &Pair::new(1));
    commit(&store, |txn| remove_device(txn, ALICE.user, "D1"));
    sign_master("D2", &Pair::new(2));
    let master = seen_by(&store, BOB, ALICE).master.unwrap();
    assert_eq!(signers(&master), ["ed25519:D2"]);

    let sign_device = |by: &Pair| {
        let signed = by.sign(ALICE, &Pair::new(2).as_device(ALICE, "D2"));
        commit(&store, |txn| {
            signatures::upload(txn, ALICE, ALICE.user, "D2", &signed.to_string()).map(drop)
        });
    };
    sign_device(&alice.self_signing);
    let next = Pair::new(50);
    let key = alice
        .master
        .sign(ALICE, &next.as_key(ALICE, "self_signing"));
    commit(&store, |txn| {
        let upload = read(ALICE, [None, Some(key), None])?;
        cross_signing::upload(txn, ALICE, upload).map(drop)
    });
    sign_device(&next);
    let device = &seen_by(&store, BOB, ALICE).devices[0].1;
    let mut expected = ["ed25519:D2".to_owned(), next.key_id()];
    expected.sort();
    assert_eq!(signers(device), expected);
}
