//! The client-server API: one file per module of the specification, each with its routes.

pub mod account;
pub mod account_data;
pub mod admin;
pub mod cross_signing;
pub mod dehydrated_device;
pub mod devices;
pub mod filters;
pub mod keys;
pub mod login;
pub mod media_download;
pub mod media_upload;
pub mod openid;
pub mod profile;
pub mod push_rules;
pub mod pushers;
pub mod registration;
pub mod reports;
pub mod room_keys;
pub mod sync;
pub mod third_party;
pub mod to_device;
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
        .merge(cross_signing::routes())
        .merge(dehydrated_device::routes())
        .merge(devices::routes())
        .merge(filters::routes())
        .merge(keys::routes())
        .merge(login::routes())
        .merge(media_download::routes())
        .merge(media_upload::routes())
        .merge(openid::routes())
        .merge(profile::routes())
        .merge(push_rules::routes())
        .merge(pushers::routes())
        .merge(registration::routes())
        .merge(reports::routes())
        .merge(room_keys::routes())
        .merge(sync::routes())
        .merge(third_party::routes())
        .merge(to_device::routes())
        .merge(user_directory::routes())
        .merge(versions::routes())
        .merge(voip::routes())
        .merge(well_known::routes())
}
