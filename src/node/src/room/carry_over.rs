//! What a user has set for a room goes along to the room that replaces it: the push rule of the room, and
//! its tags and place among the direct chats.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-18>: "When a user joins the new room,
//! the server should automatically transfer/replicate some of the user's personalized settings such as
//! notifications, tags, etc."

use names::{RoomSn, UserSn};
use serde_json::{Map, Value};
use store::Txn;
use users::account_data;
use users::push::rules;

use crate::{Lock, Node, NodeError, Touched};

const DIRECT: &str = "m.direct";
const TAG: &str = "m.tag";

impl Node {
    /// Copies a user's settings for the room `old_room_id` to `new_room`, where there are none yet. Does
    /// nothing if this server never heard of the old room.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn carry_over(
        &self,
        user: UserSn,
        old_room_id: &str,
        new_room: RoomSn,
    ) -> Result<(), NodeError> {
        if !user.is_local() {
            return Ok(());
        }
        let Some(old_room) = self.names().known_room(&self.view(), old_room_id)? else {
            return Ok(());
        };
        let guard = self.lock(Lock::User(user)).await;
        let mut txn = self.begin();
        if rooms::members::room_of(&txn, user, old_room)?.is_none() {
            return Ok(());
        }
        let new_room_id = names::room_id(&txn, new_room)?;
        copy_push_rule(&mut txn, user, old_room_id, &new_room_id)?;
        copy_tags(&mut txn, user, old_room, new_room)?;
        copy_direct(&mut txn, user, old_room_id, &new_room_id)?;
        let touched = if txn.is_empty() {
            Touched::nobody()
        } else {
            Touched::user(user)
        };
        self.commit(guard, txn, touched).await?;
        Ok(())
    }
}

fn copy_push_rule(
    txn: &mut Txn,
    user: UserSn,
    old_room_id: &str,
    new_room_id: &str,
) -> Result<(), users::Error> {
    let mut rules = rules::get(txn, user)?;
    if !rules.copy_room(old_room_id, new_room_id) {
        return Ok(());
    }
    rules::update(txn, user, |stored| {
        *stored = rules;
        Ok(())
    })
}

fn copy_tags(
    txn: &mut Txn,
    user: UserSn,
    old_room: RoomSn,
    new_room: RoomSn,
) -> Result<(), users::Error> {
    let Some(tags) = account_data::get_room(txn, user, old_room, TAG)? else {
        return Ok(());
    };
    if account_data::get_room(txn, user, new_room, TAG)?.is_some() {
        return Ok(());
    }
    account_data::put_room(txn, user, new_room, TAG, &tags)
}

/// The new room is a direct chat with whomever the old one was one.
fn copy_direct(
    txn: &mut Txn,
    user: UserSn,
    old_room_id: &str,
    new_room_id: &str,
) -> Result<(), users::Error> {
    let Some(json) = account_data::get(txn, user, DIRECT)? else {
        return Ok(());
    };
    // What a client wrote: of whatever shape.
    let Ok(mut direct) = serde_json::from_slice::<Map<String, Value>>(&json) else {
        return Ok(());
    };
    let mut changed = false;
    for rooms in direct.values_mut().filter_map(Value::as_array_mut) {
        let has = |id: &str| rooms.iter().any(|room| room == id);
        if has(old_room_id) && !has(new_room_id) {
            rooms.push(new_room_id.into());
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    let json = Value::Object(direct).to_string();
    account_data::put(txn, user, DIRECT, json.as_bytes())
}
