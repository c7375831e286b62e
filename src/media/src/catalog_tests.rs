//! The catalog over the engine in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::memory::Memory;
use store::{Options, SyncMode};

use super::*;
use crate::thumbnail::Method;

pub(crate) fn memory_store() -> Store {
    let options = Options {
        sync: SyncMode::Never,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|_| {}),
    };
    Store::open(Box::new(Memory::default()), options).unwrap()
}

const ALICE: UserSn = UserSn(1);
const BOB: UserSn = UserSn(2);
const SPEC: ThumbnailSpec = ThumbnailSpec {
    width: 96,
    height: 96,
    method: Method::Crop,
    animated: false,
};

fn id(byte: u8) -> MediaId {
    MediaId::from_random([byte; 18])
}

fn key(byte: u8) -> MediaKey {
    MediaKey::new("here", &id(byte))
}

fn content(nonce: u64, stored_ms: u64) -> Content {
    Content {
        nonce,
        content_type: "image/png".to_owned(),
        file_name: None,
        length: 10,
        sha256: [0; 32],
        stored_ms,
    }
}

fn rendered(nonce: u64) -> ThumbnailRecord {
    ThumbnailRecord::Rendered {
        nonce,
        content_type: "image/png".to_owned(),
        length: 10,
        width: 96,
        height: 96,
        animated: false,
    }
}

fn contradictions(store: &Store) -> Vec<String> {
    let mut found = Vec::new();
    check(&store.head(), |_, _| true, |sentence| found.push(sentence)).unwrap();
    found
}

#[test]
fn an_upload_in_one_step_can_be_looked_up() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .add(&store, ("here", &id(1)), Some(ALICE), content(5, 100))
        .unwrap();
    assert_eq!(
        lookup(&store.head(), key(1), 200).unwrap(),
        Lookup::Stored(content(5, 100))
    );
    assert_eq!(lookup(&store.head(), key(2), 200).unwrap(), Lookup::Unknown);
    assert!(contradictions(&store).is_empty());
}

#[test]
fn a_created_id_is_pending_until_its_content_comes() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .create(&store, ("here", &id(1)), ALICE, 100, 1100, 20)
        .unwrap();
    let found = lookup(&store.head(), key(1), 500).unwrap();
    assert_eq!(found, Lookup::Pending { expires_ms: 1100 });
    assert!(matches!(found.content(), Err(MediaError::NotYetUploaded)));
    catalog
        .complete(&store, key(1), ALICE, content(5, 600))
        .unwrap();
    assert_eq!(
        lookup(&store.head(), key(1), 9999).unwrap(),
        Lookup::Stored(content(5, 600))
    );
    assert!(contradictions(&store).is_empty());
}

#[test]
fn only_the_creator_uploads_once_and_in_time() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .create(&store, ("here", &id(1)), ALICE, 100, 1100, 20)
        .unwrap();
    let attempt = |user, nonce, now| catalog.complete(&store, key(1), user, content(nonce, now));
    assert!(matches!(
        attempt(BOB, 1, 600),
        Err(MediaError::NotTheCreator)
    ));
    assert!(matches!(
        attempt(ALICE, 2, 1100),
        Err(MediaError::UnknownMedia)
    ));
    attempt(ALICE, 3, 1099).unwrap();
    assert!(matches!(
        attempt(ALICE, 4, 1099),
        Err(MediaError::AlreadyUploaded)
    ));
    assert!(matches!(
        attempt(ALICE, 5, 9999),
        Err(MediaError::AlreadyUploaded)
    ));
    assert_eq!(
        lookup(&store.head(), key(1), 1200).unwrap(),
        Lookup::Stored(content(3, 1099))
    );
    let unknown = catalog.complete(&store, key(2), ALICE, content(6, 600));
    assert!(matches!(unknown, Err(MediaError::UnknownMedia)));
}

#[test]
fn unfinished_uploads_are_limited_for_each_user_until_they_expire_or_finish() {
    let (store, catalog) = (memory_store(), Catalog::new());
    let create =
        |byte, user, now| catalog.create(&store, ("here", &id(byte)), user, now, now + 1000, 2);
    create(1, ALICE, 100).unwrap();
    create(2, ALICE, 200).unwrap();
    assert!(matches!(
        create(3, ALICE, 300),
        Err(MediaError::TooManyPending { until_ms: 1100 })
    ));
    create(4, BOB, 300).unwrap();
    catalog
        .complete(&store, key(2), ALICE, content(1, 400))
        .unwrap();
    create(5, ALICE, 500).unwrap();
    // The first has expired, and is forgotten.
    create(6, ALICE, 1100).unwrap();
    assert!(MEDIA.get(&store.head(), &key(1)).unwrap().is_none());
    assert!(contradictions(&store).is_empty());
}

#[test]
fn an_expired_id_is_unknown_and_the_job_forgets_it() {
    let (store, catalog) = (memory_store(), Catalog::new());
    for byte in 0..7 {
        let user = if byte % 2 == 0 { ALICE } else { BOB };
        let expires_ms = if byte < 5 { 1000 } else { 5000 };
        catalog
            .create(&store, ("here", &id(byte)), user, 100, expires_ms, 20)
            .unwrap();
    }
    assert_eq!(
        lookup(&store.head(), key(0), 1000).unwrap(),
        Lookup::Unknown
    );
    let mut cursor = None;
    let mut steps = 0;
    loop {
        cursor = catalog.forget_expired(&store, cursor, 1000, 2).unwrap();
        steps += 1;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(steps, 4);
    let left = MEDIA.scan(&store.head(), &(), Direction::Forward).count();
    assert_eq!(left, 2);
    assert!(contradictions(&store).is_empty());
}

#[test]
fn of_two_uploads_to_one_id_exactly_one_wins() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .create(&store, ("here", &id(1)), ALICE, 100, 9999, 20)
        .unwrap();
    let wins = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for nonce in 0..8 {
            let (store, catalog, wins) = (&store, &catalog, &wins);
            scope.spawn(move || {
                if catalog
                    .complete(store, key(1), ALICE, content(nonce, 200))
                    .is_ok()
                {
                    wins.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(wins.into_inner(), 1);
}

#[test]
fn quarantined_content_is_as_if_it_were_not_there() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .add(&store, ("here", &id(1)), Some(ALICE), content(5, 100))
        .unwrap();
    let quarantine = Quarantine {
        by: BOB,
        since_ms: 300,
    };
    catalog
        .set_quarantine(&store, key(1), Some(quarantine))
        .unwrap();
    let found = lookup(&store.head(), key(1), 400).unwrap();
    assert_eq!(found, Lookup::Quarantined);
    assert!(matches!(found.content(), Err(MediaError::UnknownMedia)));
    catalog.set_quarantine(&store, key(1), None).unwrap();
    assert!(
        lookup(&store.head(), key(1), 400)
            .unwrap()
            .content()
            .is_ok()
    );
    let unknown = catalog.set_quarantine(&store, key(2), None);
    assert!(matches!(unknown, Err(MediaError::UnknownMedia)));
}

#[test]
fn deleting_names_every_file_and_leaves_no_row() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .add(&store, ("here", &id(1)), Some(ALICE), content(5, 100))
        .unwrap();
    catalog
        .add(&store, ("here", &id(2)), Some(ALICE), content(6, 100))
        .unwrap();
    let larger = ThumbnailSpec {
        width: 128,
        height: 128,
        ..SPEC
    };
    catalog
        .add_thumbnail(&store, key(1), SPEC, &rendered(7))
        .unwrap();
    let original = ThumbnailRecord::Original {
        content_type: "image/png".to_owned(),
    };
    catalog
        .add_thumbnail(&store, key(1), larger, &original)
        .unwrap();
    catalog
        .add_thumbnail(&store, key(2), SPEC, &rendered(8))
        .unwrap();
    let thumbnail = FileId {
        kind: FileKind::Thumbnail,
        key: key(1),
        nonce: 7,
    };
    assert!(is_current(&store.head(), &thumbnail).unwrap());

    let (_, files) = catalog.delete(&store, key(1)).unwrap();
    assert_eq!(files, [content(5, 100).file(key(1)), thumbnail]);
    for file in files {
        assert!(!is_current(&store.head(), &file).unwrap());
    }
    assert!(is_current(&store.head(), &content(6, 100).file(key(2))).unwrap());
    assert!(!is_current(&store.head(), &content(5, 100).file(key(2))).unwrap());
    assert_eq!(thumbnail_of(&store.head(), key(1), SPEC).unwrap(), None);
    assert_eq!(
        thumbnail_of(&store.head(), key(2), SPEC).unwrap(),
        Some(rendered(8))
    );
    assert!(matches!(
        catalog.delete(&store, key(1)),
        Err(MediaError::UnknownMedia)
    ));
    assert!(contradictions(&store).is_empty());
}

#[test]
fn the_first_rendering_counts_and_a_deleted_media_gets_none() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .add(&store, ("here", &id(1)), Some(ALICE), content(5, 100))
        .unwrap();
    assert!(
        catalog
            .add_thumbnail(&store, key(1), SPEC, &rendered(7))
            .unwrap()
            .is_some()
    );
    assert!(
        catalog
            .add_thumbnail(&store, key(1), SPEC, &rendered(8))
            .unwrap()
            .is_none()
    );
    assert_eq!(
        thumbnail_of(&store.head(), key(1), SPEC).unwrap(),
        Some(rendered(7))
    );
    assert!(
        catalog
            .add_thumbnail(&store, key(2), SPEC, &rendered(9))
            .unwrap()
            .is_none()
    );
}

#[test]
fn renderings_of_one_media_are_limited() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .add(&store, ("here", &id(1)), Some(ALICE), content(5, 100))
        .unwrap();
    let mut noted = 0;
    for width in 1..200 {
        let oblong = ThumbnailSpec {
            width,
            height: 300,
            ..SPEC
        };
        let ticket = catalog
            .add_thumbnail(&store, key(1), oblong, &rendered(u64::from(width)))
            .unwrap();
        noted += usize::from(ticket.is_some());
    }
    assert_eq!(noted, MAX_THUMBNAILS);
    let (_, files) = catalog.delete_thumbnails(&store, key(1)).unwrap();
    assert_eq!(files.len(), MAX_THUMBNAILS);
    assert!(
        catalog
            .add_thumbnail(&store, key(1), SPEC, &rendered(1))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_users_media_are_listed_newest_first_page_by_page() {
    let (store, catalog) = (memory_store(), Catalog::new());
    for byte in 0..5 {
        let stored_ms = 100 + u64::from(byte / 2);
        catalog
            .add(
                &store,
                ("here", &id(byte)),
                Some(ALICE),
                content(1, stored_ms),
            )
            .unwrap();
    }
    catalog
        .add(&store, ("here", &id(9)), Some(BOB), content(1, 101))
        .unwrap();
    catalog
        .add(&store, ("there", &id(8)), None, content(1, 101))
        .unwrap();
    let mut listed = Vec::new();
    let mut before = None;
    loop {
        let page = list_by_uploader(&store.head(), ALICE, before, 2).unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.record.created_ms, last.key));
        listed.extend(page.into_iter().map(|media| media.record.created_ms));
    }
    assert_eq!(listed, [102, 101, 101, 100, 100]);
}

#[test]
fn a_check_finds_what_does_not_fit_together() {
    let (store, catalog) = (memory_store(), Catalog::new());
    catalog
        .add(&store, ("here", &id(1)), Some(ALICE), content(5, 100))
        .unwrap();
    catalog
        .add_thumbnail(&store, key(1), SPEC, &rendered(7))
        .unwrap();
    let mut found = Vec::new();
    check(&store.head(), |_, _| false, |sentence| found.push(sentence)).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    let mut txn = store.begin();
    MEDIA.delete(&mut txn, &key(1));
    MEDIA_PENDING.put(&mut txn, &(ALICE, 1, key(1)), &());
    store.commit(txn).unwrap();
    assert_eq!(contradictions(&store).len(), 3);
}

proptest! {
    /// Random histories against a plain map, and the tables agree with each other after each step.
    #[test]
    fn any_history_leaves_the_tables_in_agreement(
        steps in prop::collection::vec((0_u8..5, 0_u8..4, 0_u32..2, 0_u64..500), 1..40)
    ) {
        let (store, catalog) = (memory_store(), Catalog::new());
        let mut now_ms = 0;
        let mut stored: BTreeMap<u8, u64> = BTreeMap::new();
        for (nonce, (step, byte, user, wait_ms)) in steps.into_iter().enumerate() {
            now_ms += wait_ms;
            let (user, nonce) = (UserSn(user), nonce as u64);
            match step {
                0 => {
                    let _ = catalog.create(&store, ("here", &id(byte)), user, now_ms, now_ms + 300, 2);
                }
                1 => {
                    if catalog.complete(&store, key(byte), user, content(nonce, now_ms)).is_ok() {
                        prop_assert!(stored.insert(byte, nonce).is_none());
                    }
                }
                2 => {
                    if catalog.add(&store, ("here", &id(byte)), Some(user), content(nonce, now_ms)).is_ok() {
                        prop_assert!(stored.insert(byte, nonce).is_none());
                    }
                }
                3 => {
                    let deleted = catalog.delete(&store, key(byte)).is_ok();
                    prop_assert!(stored.remove(&byte).is_none() || deleted);
                }
                _ => {
                    catalog.forget_expired(&store, None, now_ms, 100).unwrap();
                }
            }
            prop_assert_eq!(contradictions(&store), Vec::<String>::new());
            for byte in 0..4 {
                let found = match lookup(&store.head(), key(byte), now_ms).unwrap() {
                    Lookup::Stored(content) => Some(content.nonce),
                    _ => None,
                };
                prop_assert_eq!(found, stored.get(&byte).copied());
            }
        }
    }
}
