//! The client-server API: one file per module of the specification, each with its routes.

pub mod account;
pub mod account_data;
pub mod address_invites;
mod admin;
pub mod aliases;
pub mod context;
pub mod create_room;
pub mod cross_signing;
pub mod dehydrated_device;
pub mod devices;
pub mod directory;
pub mod event;
pub mod filters;
pub mod hierarchy;
pub mod initial_sync;
pub mod join;
pub mod joined_rooms;
pub mod keys;
pub mod login;
pub mod media_download;
pub mod media_upload;
pub mod members;
pub mod membership;
pub mod messages;
pub mod mutual_rooms;
pub mod notifications;
pub mod openid;
pub mod presence;
pub mod profile;
pub mod push_rules;
pub mod pushers;
pub mod receipts;
pub mod redact;
pub mod registration;
pub mod relations;
pub mod reports;
mod room_error;
pub mod room_keys;
pub(crate) mod room_names;
mod room_reader;
pub mod room_state;
pub mod search;
pub mod send;
pub mod sliding_request;
pub mod sliding_sync;
pub mod state;
pub mod summary;
pub mod sync;
pub mod third_party;
pub mod threads;
pub mod timestamp;
pub mod to_device;
pub mod typing;
pub mod upgrade;
pub mod user_directory;
pub mod versions;
pub mod voip;
pub mod well_known;

use axum::Router;

use crate::app::App;

/// All endpoints of the client-server API.
pub fn routes() -> Router<App> {
    Router::new()
        .merge(account::routes())
        .merge(account_data::routes())
        .merge(admin::routes())
        .merge(aliases::routes())
        .merge(context::routes())
        .merge(create_room::routes())
        .merge(cross_signing::routes())
        .merge(dehydrated_device::routes())
        .merge(devices::routes())
        .merge(directory::routes())
        .merge(event::routes())
        .merge(filters::routes())
        .merge(hierarchy::routes())
        .merge(initial_sync::routes())
        .merge(join::routes())
        .merge(joined_rooms::routes())
        .merge(keys::routes())
        .merge(login::routes())
        .merge(media_download::routes())
        .merge(media_upload::routes())
        .merge(members::routes())
        .merge(membership::routes())
        .merge(messages::routes())
        .merge(mutual_rooms::routes())
        .merge(notifications::routes())
        .merge(openid::routes())
        .merge(presence::routes())
        .merge(profile::routes())
        .merge(push_rules::routes())
        .merge(pushers::routes())
        .merge(receipts::routes())
        .merge(redact::routes())
        .merge(registration::routes())
        .merge(relations::routes())
        .merge(reports::routes())
        .merge(room_keys::routes())
        .merge(room_state::routes())
        .merge(search::routes())
        .merge(send::routes())
        .merge(state::routes())
        .merge(summary::routes())
        .merge(sliding_sync::routes())
        .merge(sync::routes())
        .merge(third_party::routes())
        .merge(threads::routes())
        .merge(timestamp::routes())
        .merge(to_device::routes())
        .merge(typing::routes())
        .merge(upgrade::routes())
        .merge(user_directory::routes())
        .merge(versions::routes())
        .merge(voip::routes())
        .merge(well_known::routes())
}
