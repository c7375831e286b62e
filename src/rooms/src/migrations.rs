//! Steps that bring the tables of this crate from older schemas to this one.

use event::Pdu;
use names::RoomSn;
use store::{Direction, Store};

use crate::schema::HEADS;
use crate::{Error, EventNo, Flags, Result, auth_index, event_log};

/// Events taken into one commit.
const PIECE: usize = 1_000;

/// To schema 2: the graph of auth events, for rooms from before there was one. What is there already is written
/// again as it is, so a step that was interrupted begins anew.
pub fn index_auth_events(store: &Store) -> store::Result<()> {
    let rooms: Vec<RoomSn> = HEADS
        .scan(&store.view(), &(), Direction::Forward)
        .map(|row| Ok(row?.0))
        .collect::<store::Result<_>>()?;
    for room in rooms {
        index_room(store, room).map_err(|error| match error {
            Error::Store(error) => error,
            _ => store::StoreError::Corrupt {
                table: "events",
                why: "a state event does not parse or names what is not there",
            },
        })?;
    }
    Ok(())
}

fn index_room(store: &Store, room: RoomSn) -> Result<()> {
    let damaged = |why| Error::Damaged { room: room.0, why };
    let mut next = EventNo::MIN;
    loop {
        let mut txn = store.begin();
        let head = event_log::head(&txn, room)?;
        let rules = head
            .and_then(|head| head.rules())
            .ok_or(damaged("its version is not known"))?;
        let events: Vec<_> = event_log::forwards(txn.base(), room, next)
            .take(PIECE)
            .collect::<Result<_>>()?;
        let Some((last, _)) = events.last() else {
            return Ok(());
        };
        next = last.next();
        for (no, event) in &events {
            if !event.flags.has(Flags::STATE) || event.flags.has(Flags::REJECTED) {
                continue;
            }
            let pdu = Pdu::from_stored(rules, event.event_id.clone(), event.json.as_bytes())
                .map_err(|_| damaged("stored event does not parse"))?;
            let mut auth_events = Vec::new();
            for id in pdu.auth_events() {
                let (_, number) =
                    event_log::number(&txn, id)?.ok_or(damaged("an auth event is gone"))?;
                auth_events.push(number);
            }
            auth_index::add(&mut txn, room, event.number(*no), &auth_events)?;
        }
        store.commit(txn)?;
    }
}
