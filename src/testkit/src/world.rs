//! Rooms on a store in memory, without a server around them: what tests and benchmarks of the core begin with.
//!
//! Time goes on by a millisecond with every change, and keys are the same every time, so a run can be
//! repeated exactly.

use event::{RoomVersion, SigningKey};
use names::{Names, RoomSn};
use rooms::create::{self, NewRoom, Preset};
use rooms::membership::{self, Action, Change, MemberProfile};
use rooms::{Cache, Context, NewEvent, RoomWriter, Sender, send};
use serde_json::{Map, Value};
use store::memory::Memory;
use store::{Options, Store, SyncMode, Txn};

/// The server's name; ids end in it.
pub const SERVER_NAME: &str = "here";

/// A store with rooms in it.
pub struct World {
    /// Where everything is.
    pub store: Store,
    /// The numbers of rooms and users.
    pub names: Names,
    /// What events are signed with.
    pub key: SigningKey,
    /// Parsed state events.
    pub cache: Cache,
    /// The present, in ms.
    pub now_ms: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A world without rooms, on an engine in memory.
    pub fn new() -> Self {
        Self::on(Box::new(Memory::default()))
    }

    /// A world on an engine of the caller's choice.
    pub fn on(engine: Box<dyn store::Engine>) -> Self {
        Self::named(SERVER_NAME, engine)
    }

    /// A world whose server has a name of the caller's choice.
    pub fn named(server_name: &str, engine: Box<dyn store::Engine>) -> Self {
        let options = Options {
            sync: SyncMode::Never,
            schema: 1,
            migrations: &[],
            reserve_bytes: 0,
            on_fatal: Box::new(|_| {}),
        };
        let store = Store::open(engine, options).unwrap();
        let names = Names::open(&store, server_name).unwrap();
        Self {
            store,
            names,
            key: SigningKey::generate(server_name, [7; 32]),
            cache: Cache::default(),
            now_ms: 1_000,
        }
    }

    /// A user of an id, with a number from now on.
    pub fn user<'a>(&self, user_id: &'a str) -> Sender<'a> {
        Sender {
            user: self.names.user(&self.store, user_id).unwrap(),
            user_id,
        }
    }

    /// What a [`RoomWriter`] is opened with.
    pub fn context(&self) -> Context<'_> {
        Context {
            cache: &self.cache,
            key: &self.key,
            now_ms: self.now_ms,
            pause: &|| {},
        }
    }

    /// A room, with its create event alone and what `fill` puts after it, in a change that is not committed yet.
    pub fn begin(
        &self,
        txn: &mut Txn,
        version: RoomVersion,
        creator: Sender<'_>,
        creation_content: Map<String, Value>,
        fill: impl FnOnce(&mut RoomWriter<'_>) -> rooms::Result<()>,
    ) -> RoomSn {
        let random = std::array::from_fn(|n| self.now_ms.to_be_bytes()[n % 8]);
        let room = public_room(creator);
        let create = create::create_event(
            version,
            &self.key,
            &room,
            creation_content,
            random,
            self.now_ms,
        )
        .unwrap();
        let number = self.names.room(&self.store, create.room_id()).unwrap();
        let (rules, context) = (version.rules(), self.context());
        let mut writer =
            RoomWriter::begin(txn, context, rules, number, creator.user, &create).unwrap();
        fill(&mut writer).unwrap();
        writer.finish();
        number
    }

    /// Makes a room.
    pub fn create(
        &mut self,
        version: RoomVersion,
        room: &NewRoom<'_>,
        creation_content: Map<String, Value>,
    ) -> RoomSn {
        self.now_ms += 1;
        let mut txn = self.store.begin();
        let number = self.begin(
            &mut txn,
            version,
            room.creator,
            creation_content,
            |writer| create::build(writer, room),
        );
        self.store.commit(txn).unwrap();
        number
    }

    /// Changes a room; how many events that made, or why it was refused.
    ///
    /// # Errors
    /// Those of `work`; then nothing is changed.
    pub fn change(
        &mut self,
        room: RoomSn,
        work: impl FnOnce(&mut RoomWriter<'_>) -> rooms::Result<()>,
    ) -> rooms::Result<usize> {
        self.now_ms += 1;
        let mut txn = self.store.begin();
        let mut writer = RoomWriter::open(&mut txn, self.context(), room)?;
        work(&mut writer)?;
        let appended = writer.finish().appended.len();
        self.store.commit(txn).unwrap();
        Ok(appended)
    }

    /// Changes a membership.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn act(
        &mut self,
        room: RoomSn,
        action: Action,
        by: &str,
        to: &str,
    ) -> rooms::Result<usize> {
        let wanted = Change {
            action,
            sender: self.user(by),
            target: self.user(to),
            profile: MemberProfile::default(),
            reason: None,
            is_guest: false,
            is_direct: false,
            custom: None,
        };
        self.change(room, |writer| membership::change(writer, &wanted).map(drop))
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn say(&mut self, room: RoomSn, by: &str, text: &str) -> rooms::Result<usize> {
        let sender = self.user(by);
        let content = serde_json::json!({ "msgtype": "m.text", "body": text }).to_string();
        self.change(room, |writer| {
            let new = NewEvent::message(sender, "m.room.message", &content);
            send::message(writer, &new).map(drop)
        })
    }

    /// Sets an entry of the state.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn set(
        &mut self,
        room: RoomSn,
        by: &str,
        (event_type, state_key): (&str, &str),
        content: &Value,
    ) -> rooms::Result<usize> {
        let (sender, content) = (self.user(by), content.to_string());
        self.change(room, |writer| {
            let new = NewEvent::state(sender, event_type, state_key, &content);
            send::state(writer, &new).map(drop)
        })
    }
}

/// A room that everybody may join, to be given a name, a topic and more.
pub fn public_room(creator: Sender<'_>) -> NewRoom<'_> {
    NewRoom {
        creator,
        profile: MemberProfile::default(),
        preset: Preset::PublicChat,
        name: None,
        topic: None,
        alias: None,
        published: false,
        invite: Vec::new(),
        is_direct: false,
        initial_state: Vec::new(),
        power_level_override: Map::new(),
    }
}
