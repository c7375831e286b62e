//! Numbers for the names that recur everywhere: users and rooms.
//!
//! User ids and room ids become numbers at the door, so that keys are short and sets of users are
//! bitmaps. A number is given once and never reused, and names one identity for ever.
//!
//! Invariants:
//! - A name and its number are written in one batch of their own, before (in commit order) any batch
//!   that uses the number; so no row can hold a number without a name.
//! - Whether a user is local is part of the number ([`UserSn::is_local`]).
//!
//! Deliberately not here: what a user or a room is.

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use store::{
    Decoder, Direction, Encoder, Family, Key, PrefixOf, Read, Record, Result, Store, StoreError,
    Table, TableInfo,
};

/// A user's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserSn(pub u32);

/// A room's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomSn(pub u32);

const REMOTE: u32 = 1 << 31;

impl UserSn {
    /// Below the numbers of all users of other servers, and above those of all local ones.
    pub const FIRST_REMOTE: UserSn = UserSn(REMOTE);

    /// True for users of this server.
    pub fn is_local(self) -> bool {
        self.0 & REMOTE == 0
    }
}

impl Key for UserSn {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        Ok(UserSn(u32::decode(from)?))
    }
}

impl Key for RoomSn {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
    }
    fn decode(from: &mut Decoder<'_>) -> Result<Self> {
        Ok(RoomSn(u32::decode(from)?))
    }
}

impl Record for UserSn {}
impl Record for RoomSn {}
impl PrefixOf<UserSn> for UserSn {}

const USER_NUMBERS: Table<String, UserSn> = Table::source(Family::Names, 1, "user_numbers");
const USER_NAMES: Table<UserSn, String> =
    Table::derived(Family::Names, 2, "user_names", "names::check");
const ROOM_NUMBERS: Table<String, RoomSn> = Table::source(Family::Names, 3, "room_numbers");
const ROOM_NAMES: Table<RoomSn, String> =
    Table::derived(Family::Names, 4, "room_names", "names::check");

/// The tables of this crate.
pub const TABLES: &[TableInfo] = &[
    USER_NUMBERS.info(),
    USER_NAMES.info(),
    ROOM_NUMBERS.info(),
    ROOM_NAMES.info(),
];

/// The number of a user id, if it was ever seen.
pub fn user_sn(from: &impl Read, user_id: &str) -> Result<Option<UserSn>> {
    USER_NUMBERS.get(from, &user_id.to_owned())
}

/// The user id of a number.
pub fn user_id(from: &impl Read, user: UserSn) -> Result<String> {
    USER_NAMES.get(from, &user)?.ok_or(StoreError::Corrupt {
        table: "user_names",
        why: "no name",
    })
}

/// The user ids of many numbers, in their order.
pub fn user_ids(from: &impl Read, users: &[UserSn]) -> Result<Vec<String>> {
    let names = USER_NAMES.multi_get(from, users)?;
    names
        .into_iter()
        .map(|name| {
            name.ok_or(StoreError::Corrupt {
                table: "user_names",
                why: "no name",
            })
        })
        .collect()
}

/// The number of a room id, if it was ever seen.
pub fn room_sn(from: &impl Read, room_id: &str) -> Result<Option<RoomSn>> {
    ROOM_NUMBERS.get(from, &room_id.to_owned())
}

/// The room id of a number.
pub fn room_id(from: &impl Read, room: RoomSn) -> Result<String> {
    ROOM_NAMES.get(from, &room)?.ok_or(StoreError::Corrupt {
        table: "room_names",
        why: "no name",
    })
}

/// All rooms, by number.
pub fn all_rooms(from: &impl Read) -> Result<Vec<(RoomSn, String)>> {
    ROOM_NAMES.scan(from, &(), Direction::Forward).collect()
}

/// All users, by number: the local ones first.
pub fn all_users(from: &impl Read) -> Result<Vec<(UserSn, String)>> {
    USER_NAMES.scan(from, &(), Direction::Forward).collect()
}

/// Checks that each name has its number and each number its name; `report` hears of all that have not.
///
/// # Errors
/// If a row can't be read.
pub fn check(from: &impl Read, report: &mut dyn FnMut(String)) -> Result<()> {
    check_pair(from, &USER_NUMBERS, &USER_NAMES, report)?;
    check_pair(from, &ROOM_NUMBERS, &ROOM_NAMES, report)
}

fn check_pair<N: Key + Record + PartialEq>(
    from: &impl Read,
    numbers: &Table<String, N>,
    names: &Table<N, String>,
    report: &mut dyn FnMut(String),
) -> Result<()> {
    for row in numbers.scan(from, &(), Direction::Forward) {
        let (name, number) = row?;
        if names.get(from, &number)?.as_ref() != Some(&name) {
            report(format!("{}: {name} is not under its number", names.name()));
        }
    }
    for row in names.scan(from, &(), Direction::Forward) {
        let (number, name) = row?;
        if numbers.get(from, &name)? != Some(number) {
            report(format!("{}: {name} has another number", numbers.name()));
        }
    }
    Ok(())
}

/// Numbers given in one commit.
const USERS_PER_COMMIT: usize = 1000;

struct Next {
    local_user: u32,
    remote_user: u32,
    room: u32,
}

/// Gives out numbers, and remembers those in use. One per store.
pub struct Names {
    server_name: String,
    next: Mutex<Next>,
    users: Cache<String, UserSn>,
    rooms: Cache<String, RoomSn>,
    user_ids: Cache<UserSn, std::sync::Arc<str>>,
}

impl Names {
    /// Reads where the numbers of `store` have got to.
    pub fn open(store: &Store, server_name: &str) -> Result<Names> {
        let head = store.head();
        let last_before = |end: u32| -> Result<Option<u32>> {
            let mut scan = USER_NAMES.range(&head, &UserSn(0), &UserSn(end), Direction::Backward);
            Ok(scan.next().transpose()?.map(|(user, _)| user.0))
        };
        let last_local = last_before(REMOTE)?;
        let last_remote = last_before(u32::MAX)?.filter(|user| user & REMOTE != 0);
        let last_room = ROOM_NAMES
            .scan(&head, &(), Direction::Backward)
            .next()
            .transpose()?;
        Ok(Names {
            server_name: server_name.to_owned(),
            next: Mutex::new(Next {
                local_user: last_local.map_or(1, |last| last + 1),
                remote_user: last_remote.map_or(REMOTE | 1, |last| last + 1),
                room: last_room.map_or(1, |(room, _)| room.0 + 1),
            }),
            users: Cache::new(100_000),
            rooms: Cache::new(20_000),
            user_ids: Cache::new(100_000),
        })
    }

    /// True if the id ends in this server's name.
    pub fn is_local_id(&self, id: &str) -> bool {
        id.split_once(':')
            .is_some_and(|(_, server)| server == self.server_name)
    }

    /// The user's number; a new one if the id was never seen.
    pub fn user(&self, store: &Store, user_id: &str) -> Result<UserSn> {
        if let Some(user) = self.users.get(user_id) {
            return Ok(user);
        }
        // Under the lock, so that an id can't be given two numbers.
        let mut next = self.next.lock();
        if let Some(user) = user_sn(&store.head(), user_id)? {
            self.users.insert(user_id.to_owned(), user);
            return Ok(user);
        }
        let counter = if self.is_local_id(user_id) {
            &mut next.local_user
        } else {
            &mut next.remote_user
        };
        let user = UserSn(*counter);
        let mut txn = store.begin();
        USER_NUMBERS.put(&mut txn, &user_id.to_owned(), &user);
        USER_NAMES.put(&mut txn, &user, &user_id.to_owned());
        store.commit(txn)?;
        *counter += 1;
        self.users.insert(user_id.to_owned(), user);
        Ok(user)
    }

    /// Gives numbers to all ids that have none yet, in few commits.
    pub fn number_users(&self, store: &Store, user_ids: &[String]) -> Result<()> {
        for user_ids in user_ids.chunks(USERS_PER_COMMIT) {
            let mut next = self.next.lock();
            let mut txn = store.begin();
            let (mut local_user, mut remote_user) = (next.local_user, next.remote_user);
            for user_id in user_ids {
                if user_sn(&txn, user_id)?.is_some() {
                    continue;
                }
                let counter = if self.is_local_id(user_id) {
                    &mut local_user
                } else {
                    &mut remote_user
                };
                let user = UserSn(*counter);
                *counter += 1;
                USER_NUMBERS.put(&mut txn, user_id, &user);
                USER_NAMES.put(&mut txn, &user, user_id);
            }
            store.commit(txn)?;
            (next.local_user, next.remote_user) = (local_user, remote_user);
        }
        Ok(())
    }

    /// The user's number if the id was ever seen, without giving a new one.
    pub fn known_user(&self, from: &impl Read, user_id: &str) -> Result<Option<UserSn>> {
        if let Some(user) = self.users.get(user_id) {
            return Ok(Some(user));
        }
        let user = user_sn(from, user_id)?;
        if let Some(user) = user {
            self.users.insert(user_id.to_owned(), user);
        }
        Ok(user)
    }

    /// The id of a user's number, from memory where it can be.
    pub fn user_id(&self, from: &impl Read, user: UserSn) -> Result<std::sync::Arc<str>> {
        if let Some(id) = self.user_ids.get(&user) {
            return Ok(id);
        }
        let id: std::sync::Arc<str> = user_id(from, user)?.into();
        self.user_ids.insert(user, id.clone());
        Ok(id)
    }

    /// The room's number if the id was ever seen.
    pub fn known_room(&self, from: &impl Read, room_id: &str) -> Result<Option<RoomSn>> {
        if let Some(room) = self.rooms.get(room_id) {
            return Ok(Some(room));
        }
        let room = room_sn(from, room_id)?;
        if let Some(room) = room {
            self.rooms.insert(room_id.to_owned(), room);
        }
        Ok(room)
    }

    /// The room's number; a new one if the id was never seen.
    pub fn room(&self, store: &Store, room_id: &str) -> Result<RoomSn> {
        if let Some(room) = self.rooms.get(room_id) {
            return Ok(room);
        }
        let mut next = self.next.lock();
        if let Some(room) = room_sn(&store.head(), room_id)? {
            self.rooms.insert(room_id.to_owned(), room);
            return Ok(room);
        }
        let room = RoomSn(next.room);
        let mut txn = store.begin();
        ROOM_NUMBERS.put(&mut txn, &room_id.to_owned(), &room);
        ROOM_NAMES.put(&mut txn, &room, &room_id.to_owned());
        store.commit(txn)?;
        next.room += 1;
        self.rooms.insert(room_id.to_owned(), room);
        Ok(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Options, SyncMode, memory::Memory};

    fn open(memory: &Memory) -> (Store, Names) {
        let options = Options {
            sync: SyncMode::Never,
            schema: 1,
            migrations: &[],
            reserve_bytes: 0,
            on_fatal: Box::new(|_| {}),
        };
        let store = Store::open(Box::new(memory.clone()), options).unwrap();
        let names = Names::open(&store, "here").unwrap();
        (store, names)
    }

    #[test]
    fn numbers_are_kept_over_restarts_and_never_given_twice() {
        let memory = Memory::default();
        let (store, names) = open(&memory);
        let alice = names.user(&store, "@alice:here").unwrap();
        let bob = names.user(&store, "@bob:there").unwrap();
        let room = names.room(&store, "!room:here").unwrap();
        assert!(alice.is_local() && !bob.is_local());
        drop((store, names));
        let (store, names) = open(&memory);
        assert_eq!(names.user(&store, "@alice:here").unwrap(), alice);
        assert_eq!(names.user(&store, "@bob:there").unwrap(), bob);
        assert_eq!(names.room(&store, "!room:here").unwrap(), room);
        let others = [
            names.user(&store, "@carol:here").unwrap(),
            names.user(&store, "@dave:there").unwrap(),
        ];
        assert!(!others.contains(&alice) && !others.contains(&bob));
        assert_eq!(&*names.user_id(&store.head(), bob).unwrap(), "@bob:there");
        assert_ne!(names.room(&store, "!other:here").unwrap(), room);
    }

    #[test]
    fn a_name_without_its_number_and_a_number_without_its_name_are_found() {
        let problems = |harm: fn(&mut store::Txn, UserSn)| {
            let (store, names) = open(&Memory::default());
            let alice = names.user(&store, "@alice:here").unwrap();
            names.room(&store, "!room:here").unwrap();
            let mut txn = store.begin();
            harm(&mut txn, alice);
            store.commit(txn).unwrap();
            let mut found = Vec::new();
            check(&store.head(), &mut |problem| found.push(problem)).unwrap();
            found
        };
        assert_eq!(problems(|_, _| {}), [""; 0]);
        let lost_name = problems(|txn, user| USER_NAMES.delete(txn, &user));
        assert_eq!(
            lost_name,
            ["user_names: @alice:here is not under its number"]
        );
        let lost_number = problems(|txn, _| USER_NUMBERS.delete(txn, &"@alice:here".to_owned()));
        assert_eq!(
            lost_number,
            ["user_numbers: @alice:here has another number"]
        );
        let given_twice = problems(|txn, user| {
            USER_NUMBERS.put(txn, &"@bob:here".to_owned(), &user);
        });
        assert_eq!(
            given_twice,
            ["user_names: @bob:here is not under its number"]
        );
        let lost_room = problems(|txn, _| ROOM_NAMES.delete(txn, &RoomSn(1)));
        assert_eq!(
            lost_room,
            ["room_names: !room:here is not under its number"]
        );
    }
}
