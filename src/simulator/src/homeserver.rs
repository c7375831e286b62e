//! One homeserver: the core on a store in memory, and what a node keeps in memory beside it.
//!
//! The disk is synced when the simulation says so, not by a clock: what was not is lost with the power, but for some first
//! part of it, and whoever is told of a change is told after the sync.

use event::auth::AuthError;
use event::{EventId, RoomRules, SigningKey};
use names::{Names, RoomSn};
use rooms::backfill::Filled;
use rooms::ingest::{self, Arrival, Entered, Need, Received, Verified};
use rooms::{Cache, Context, Error, NewEvent, RoomWriter, Sender, event_log};
use store::memory::Memory;
use store::{Engine, Options, Store, SyncMode, Txn, View};

use crate::inbox::Inbox;
use crate::people::Intention;
use crate::random::Random;

/// How often a call is repeated because it needs something that is then given.
const ROUNDS: usize = 8;

/// A server of the simulation.
pub struct Homeserver {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: SigningKey,
    /// By how much its clock is ahead of the true one, in ms.
    pub ahead_ms: u64,
    /// Events that are here, but not in the store yet.
    pub inbox: Inbox,
    room_id: String,
    engine: Memory,
    /// What was on the disk when the server started.
    at_start: Memory,
    core: Option<Core>,
}

struct Core {
    store: Store,
    names: Names,
    cache: Cache,
}

impl Core {
    fn open(engine: &Memory, server_name: &str) -> store::Result<Self> {
        let options = Options {
            // No sync but those that the simulation makes.
            sync: SyncMode::Never,
            schema: 1,
            migrations: &[],
            reserve_bytes: 0,
            on_fatal: Box::new(|_| {}),
        };
        let store = Store::open(Box::new(engine.clone()), options)?;
        let names = Names::open(&store, server_name)?;
        Ok(Core {
            store,
            names,
            cache: Cache::default(),
        })
    }
}

/// An event that this server made.
pub struct Made {
    /// Its id.
    pub event_id: EventId,
    /// What goes over the network.
    pub bytes: String,
}

/// What became of an intention.
pub enum Done {
    /// Events, the last of them the one intended.
    Made(Vec<Made>),
    /// The rules do not allow it.
    Refused(AuthError),
    /// It can't be made an event.
    Impossible,
}

impl Homeserver {
    /// A server with an empty disk.
    ///
    /// # Errors
    /// If the store can't be opened.
    pub fn new(key: SigningKey, ahead_ms: u64) -> store::Result<Self> {
        let engine = Memory::default();
        let name = key.server_name().to_owned();
        let core = Core::open(&engine, &name)?;
        Ok(Homeserver {
            name,
            key,
            ahead_ms,
            inbox: Inbox::default(),
            room_id: String::new(),
            at_start: engine.after_power_loss(0),
            engine,
            core: Some(core),
        })
    }

    /// The room that everything is about.
    pub fn set_room(&mut self, room_id: &str) {
        room_id.clone_into(&mut self.room_id);
    }

    /// Whether the process runs.
    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }

    fn core(&self) -> rooms::Result<&Core> {
        self.core
            .as_ref()
            .ok_or(Error::Forbidden("the server is down"))
    }

    fn context<'a>(&'a self, core: &'a Core, now_ms: u64) -> Context<'a> {
        Context {
            cache: &core.cache,
            key: &self.key,
            now_ms: now_ms + self.ahead_ms,
            pause: &|| {},
        }
    }

    /// Everything written so far, and the room's number.
    ///
    /// # Errors
    /// If the server is down or is not in the room.
    pub fn look(&self) -> rooms::Result<(View, RoomSn)> {
        let core = self.core()?;
        let view = core.store.head();
        let room = core
            .names
            .known_room(&view, &self.room_id)?
            .ok_or(Error::UnknownRoom)?;
        match event_log::head(&view, room)? {
            Some(_) => Ok((view, room)),
            None => Err(Error::UnknownRoom),
        }
    }

    /// Whether the server runs and has the room.
    pub fn is_in_room(&self) -> bool {
        self.look().is_ok()
    }

    /// Everything written so far is safe from now on.
    ///
    /// # Errors
    /// None that the engine in memory has.
    pub fn sync(&self) -> store::Result<()> {
        self.engine.sync()
    }

    /// The power goes: what was synced stays, and some of what came after. A disk that `forgets` keeps only what was on
    /// it when the server started.
    pub fn crash(&mut self, random: &mut Random, forgets: bool) {
        self.engine = match forgets {
            true => self.at_start.clone(),
            false => self.engine.after_power_loss(random.below(6) as u64),
        };
        self.core = None;
        self.inbox = Inbox::default();
    }

    /// The room's id.
    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    /// Starts the server after a crash.
    ///
    /// # Errors
    /// If the store can't be opened.
    pub fn start(&mut self) -> store::Result<()> {
        self.at_start = self.engine.after_power_loss(0);
        self.core = Some(Core::open(&self.engine, &self.name)?);
        Ok(())
    }

    fn sender<'a>(&self, core: &Core, user_id: &'a str) -> rooms::Result<Sender<'a>> {
        Ok(Sender {
            user: core.names.user(&core.store, user_id)?,
            user_id,
        })
    }

    /// Makes the room.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn create(
        &mut self,
        now_ms: u64,
        room: &crate::setup::NewRoom,
    ) -> rooms::Result<Vec<Made>> {
        let core = self.core()?;
        let creator = self.sender(core, &room.creator)?;
        let new = room.with(creator);
        let context = self.context(core, now_ms);
        let create = rooms::create::create_event(
            room.version,
            &self.key,
            &new,
            serde_json::Map::new(),
            room.random,
            context.now_ms,
        )?;
        let number = core.names.room(&core.store, create.room_id())?;
        let mut txn = core.store.begin();
        let mut writer = RoomWriter::begin(
            &mut txn,
            context,
            room.version.rules(),
            number,
            creator.user,
            &create,
        )?;
        rooms::create::build(&mut writer, &new)?;
        let made = collect(&mut writer)?;
        writer.finish();
        core.store.commit(txn)?;
        let room_id = create.room_id().to_owned();
        self.set_room(&room_id);
        Ok(made)
    }

    /// Does what a user of this server wants, if it may be.
    ///
    /// # Errors
    /// If it fails otherwise than by not being allowed.
    pub fn act(&self, now_ms: u64, intention: &Intention) -> rooms::Result<Done> {
        let (_, room) = self.look()?;
        let core = self.core()?;
        let content = intention.content.to_string();
        let new = self.new_event(core, intention, &content)?;
        let mut txn = core.store.begin();
        let mut writer = RoomWriter::open(&mut txn, self.context(core, now_ms), room)?;
        match writer.append(&new) {
            Ok(_) => {}
            Err(Error::NotAllowed(error)) => return Ok(Done::Refused(error)),
            Err(Error::BadEvent(_) | Error::TooLarge(_)) => return Ok(Done::Impossible),
            Err(error) => return Err(error),
        }
        let made = collect(&mut writer)?;
        writer.finish();
        core.store.commit(txn)?;
        Ok(Done::Made(made))
    }

    fn new_event<'a>(
        &self,
        core: &Core,
        intention: &'a Intention,
        content: &'a str,
    ) -> rooms::Result<NewEvent<'a>> {
        let sender = self.sender(core, &intention.sender)?;
        let target = match (intention.event_type, &intention.state_key) {
            ("m.room.member", Some(user)) => Some(self.sender(core, user)?.user),
            _ => None,
        };
        Ok(NewEvent {
            sender,
            event_type: intention.event_type,
            state_key: intention.state_key.as_deref(),
            target,
            content,
            redacts: intention.redacts.as_deref(),
            origin_server_ts: None,
        })
    }

    /// Receives an event; nothing comes of one that can't belong to the room.
    ///
    /// # Errors
    /// If the store fails or the room is damaged; never for anything that the event has in it.
    pub fn receive(
        &self,
        now_ms: u64,
        event: &Verified,
        outlier: bool,
        state: Option<&[EventId]>,
    ) -> rooms::Result<Option<Received>> {
        let (_, room) = self.look()?;
        let core = self.core()?;
        for _ in 0..ROUNDS {
            let arrival = match state {
                _ if outlier => Arrival::Outlier,
                Some(state) => Arrival::AfterGap { state },
                None => Arrival::Live,
            };
            let mut txn = core.store.begin();
            let mut writer = RoomWriter::open(&mut txn, self.context(core, now_ms), room)?;
            let received = match writer.receive(event, arrival) {
                Err(Error::BadEvent(_)) => return Ok(None),
                received => received?,
            };
            match received {
                Received::Need(Need::Users(users)) => self.number(core, &users)?,
                Received::Stored { .. } => {
                    writer.finish();
                    core.store.commit(txn)?;
                    return Ok(Some(received));
                }
                received => return Ok(Some(received)),
            }
        }
        Err(Error::Forbidden(
            "the core needs the same users again and again",
        ))
    }

    /// Fills in history from before what is here; what that needs is answered, with nothing done.
    ///
    /// # Errors
    /// If the store fails or the room is damaged.
    pub fn fill_in(
        &self,
        now_ms: u64,
        events: &[Verified],
        state: &[EventId],
    ) -> rooms::Result<Filled> {
        let (_, room) = self.look()?;
        let core = self.core()?;
        for _ in 0..ROUNDS {
            let mut txn = core.store.begin();
            let mut writer = RoomWriter::open(&mut txn, self.context(core, now_ms), room)?;
            match writer.backfill(events, state)? {
                Filled::Need(Need::Users(users)) => self.number(core, &users)?,
                Filled::Stored(count) => {
                    writer.finish();
                    core.store.commit(txn)?;
                    return Ok(Filled::Stored(count));
                }
                filled => return Ok(filled),
            }
        }
        Err(Error::Forbidden(
            "the core needs the same users again and again",
        ))
    }

    fn number(&self, core: &Core, users: &[String]) -> rooms::Result<()> {
        for user in users {
            core.names.user(&core.store, user)?;
        }
        Ok(())
    }

    /// `/send_join` from the joining side: takes the room over from another server.
    ///
    /// # Errors
    /// If the store fails, or something is needed that the other server did not give.
    pub fn enter(
        &self,
        now_ms: u64,
        rules: &'static RoomRules,
        answer: &ingest::Answer<'_>,
    ) -> rooms::Result<()> {
        let core = self.core()?;
        let room = core.names.room(&core.store, &self.room_id)?;
        for _ in 0..ROUNDS {
            let mut txn = core.store.begin();
            let context = self.context(core, now_ms);
            match ingest::enter(&mut txn, context, rules, room, answer)? {
                Entered::Done(_) => {
                    core.store.commit(txn)?;
                    return Ok(());
                }
                Entered::Need(Need::Users(users)) => self.number(core, &users)?,
                Entered::Need(need) => {
                    return Err(Error::Invalid(format!(
                        "a whole state was given, but it needs {need:?}"
                    )));
                }
            }
        }
        Err(Error::Forbidden(
            "the core needs the same users again and again",
        ))
    }
}

/// What a writer made, read back before it is committed.
fn collect(writer: &mut RoomWriter<'_>) -> rooms::Result<Vec<Made>> {
    let room = writer.room();
    let next = writer.head().next;
    let txn: &mut Txn = writer.txn();
    let position = store::Position::PENDING;
    let mut made = Vec::new();
    for row in event_log::backwards(txn, room, next) {
        let (_, event) = row?;
        if event.position != position {
            break;
        }
        made.push(Made {
            event_id: event.event_id.clone(),
            bytes: event.json.to_string(),
        });
    }
    made.reverse();
    Ok(made)
}
