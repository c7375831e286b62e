//! The tables of users: every key and value type, said once.
//!
//! Table ids are unique within a family. Accounts and what hangs on them take Users 1..60 and Rooms
//! 100..149; end-to-end encryption takes Keys, ToDevice, Users 61..99 and Rooms 150..199.

use names::{RoomSn, UserSn};
use store::{At, Blob, Family, Position, Table, TableInfo};

use crate::accounts::{Account, Threepid};
use crate::backup::{BackedUpKey, Backup};
use crate::dehydrated::DehydratedDevice;
use crate::devices::{Device, Seen};
use crate::directory::Entry;
use crate::keys::device_lists::Previous;
use crate::keys::one_time::{Counts, FallbackKey};
use crate::keys::remote::RemoteList;
use crate::keys::user_signatures::UserSignature;
use crate::pushers::Pusher;
use crate::registration_tokens::RegistrationToken;
use crate::reports::Report;
use crate::tokens::{AccessToken, DeviceToken, RefreshToken, ShortToken, TokenHash};

/// Accounts of this server.
pub const ACCOUNTS: Table<UserSn, Account> = Table::source(Family::Users, 1, "accounts");
/// Devices by user and device id.
pub const DEVICES: Table<(UserSn, String), Device> = Table::source(Family::Users, 2, "devices");
/// When devices were last seen.
pub const DEVICES_SEEN: Table<(UserSn, String), Seen> =
    Table::source(Family::Users, 3, "devices_seen");
/// Access tokens by hash.
pub const ACCESS_TOKENS: Table<TokenHash, AccessToken> =
    Table::source(Family::Users, 4, "access_tokens");
/// Refresh tokens by hash.
pub const REFRESH_TOKENS: Table<TokenHash, RefreshToken> =
    Table::source(Family::Users, 5, "refresh_tokens");
/// The tokens of each device.
pub const DEVICE_TOKENS: Table<(UserSn, String, TokenHash), DeviceToken> =
    Table::derived(Family::Users, 6, "device_tokens", "users::check");
/// Tokens for `m.login.token` by hash.
pub const LOGIN_TOKENS: Table<TokenHash, ShortToken> =
    Table::source(Family::Users, 7, "login_tokens");
/// OpenID tokens by hash.
pub const OPENID_TOKENS: Table<TokenHash, ShortToken> =
    Table::source(Family::Users, 8, "openid_tokens");
/// When login and OpenID tokens expire: time in milliseconds, kind, hash.
pub const TOKEN_EXPIRIES: Table<(u64, u8, TokenHash), ()> =
    Table::derived(Family::Users, 9, "token_expiries", "users::check");
/// Registration tokens by their text.
pub const REGISTRATION_TOKENS: Table<String, RegistrationToken> =
    Table::source(Family::Users, 10, "registration_tokens");
/// Third-party identifiers: user, medium, address.
pub const THREEPIDS: Table<(UserSn, String, String), Threepid> =
    Table::source(Family::Users, 11, "threepids");
/// Profiles: a JSON object of all fields.
pub const PROFILES: Table<UserSn, Blob> = Table::source(Family::Users, 12, "profiles");
/// Global account data by type: the JSON content.
pub const ACCOUNT_DATA: Table<(UserSn, String), At<Blob>> =
    Table::source(Family::Users, 13, "account_data");
/// Account data of a user in a room by type: the JSON content.
pub const ROOM_ACCOUNT_DATA: Table<(UserSn, RoomSn, String), At<Blob>> =
    Table::source(Family::Users, 14, "room_account_data");
/// Where each item of account data was last changed: user, position, room (0: global), type. One row
/// per item.
pub const ACCOUNT_DATA_LOG: Table<(UserSn, Position, RoomSn, String), ()> =
    Table::derived(Family::Users, 15, "account_data_log", "users::check");
/// Filters by user and id: canonical JSON.
pub const FILTERS: Table<(UserSn, String), Blob> = Table::source(Family::Users, 16, "filters");
/// Push rules as the user changed them.
pub const PUSH_RULES: Table<UserSn, At<Blob>> = Table::source(Family::Users, 17, "push_rules");
/// Pushers: user, app id, pushkey.
pub const PUSHERS: Table<(UserSn, String, String), Pusher> =
    Table::source(Family::Users, 18, "pushers");
/// Who has a pusher: app id, pushkey, user.
pub const PUSHERS_BY_KEY: Table<(String, String, UserSn), ()> =
    Table::derived(Family::Users, 19, "pushers_by_key", "users::check");
/// Words by which users are found.
pub const DIRECTORY_WORDS: Table<(String, UserSn), ()> =
    Table::derived(Family::Users, 20, "directory_words", "users::check");
/// Users who can be found, and the words they are found by.
pub const DIRECTORY_ENTRIES: Table<UserSn, Entry> =
    Table::source(Family::Users, 21, "directory_entries");
/// Reports of events, rooms and users, in the order they came.
pub const REPORTS: Table<Position, Report> = Table::source(Family::Users, 22, "reports");

/// All tables of this crate, for checks that walk over everything.
pub const TABLES: &[TableInfo] = &[
    ACCOUNTS.info(),
    DEVICES.info(),
    DEVICES_SEEN.info(),
    ACCESS_TOKENS.info(),
    REFRESH_TOKENS.info(),
    DEVICE_TOKENS.info(),
    LOGIN_TOKENS.info(),
    OPENID_TOKENS.info(),
    TOKEN_EXPIRIES.info(),
    REGISTRATION_TOKENS.info(),
    THREEPIDS.info(),
    PROFILES.info(),
    ACCOUNT_DATA.info(),
    ROOM_ACCOUNT_DATA.info(),
    ACCOUNT_DATA_LOG.info(),
    FILTERS.info(),
    PUSH_RULES.info(),
    PUSHERS.info(),
    PUSHERS_BY_KEY.info(),
    DIRECTORY_WORDS.info(),
    DIRECTORY_ENTRIES.info(),
    REPORTS.info(),
    // End-to-end encryption:
    DEVICE_KEYS.info(),
    ONE_TIME_KEYS.info(),
    ONE_TIME_KEY_IDS.info(),
    CLAIMED_KEYS.info(),
    FALLBACK_KEYS.info(),
    KEY_COUNTS.info(),
    CROSS_SIGNING_KEYS.info(),
    USER_SIGNATURES.info(),
    USER_SIGNATURE_LOG.info(),
    DEVICE_LISTS.info(),
    DEVICE_LIST_LOG.info(),
    REMOTE_LISTS.info(),
    REMOTE_DEVICE_NAMES.info(),
    DEVICE_CHANGES.info(),
    BACKUPS.info(),
    BACKUP_KEYS.info(),
    DEHYDRATED_DEVICES.info(),
    TO_DEVICE.info(),
    TO_DEVICE_TRANSACTIONS.info(),
    REMOTE_MESSAGES.info(),
];

// Tables of end-to-end encryption: Keys 1.., ToDevice 1.., Users 61..99, Rooms 150..199,
// Transactions 61..99.

/// (user, device): the device's identity keys, canonical JSON without `unsigned`.
pub(crate) const DEVICE_KEYS: Table<(UserSn, String), Blob> =
    Table::source(Family::Keys, 1, "device_keys");

/// (user, device, algorithm, where uploaded, key id): an unclaimed one-time key, canonical JSON. The
/// order of the rows is the order in which they are given out.
pub(crate) const ONE_TIME_KEYS: Table<(UserSn, String, String, Position, String), Blob> =
    Table::source(Family::Keys, 2, "one_time_keys");

/// (user, device, algorithm, key id): where the one-time key was uploaded.
pub(crate) const ONE_TIME_KEY_IDS: Table<(UserSn, String, String, String), At<()>> =
    Table::derived(Family::Keys, 3, "one_time_key_ids", "users::check");

/// (user, device, algorithm, key id): a one-time key given out since the device's last new upload.
pub(crate) const CLAIMED_KEYS: Table<(UserSn, String, String, String), Blob> =
    Table::source(Family::Keys, 4, "claimed_keys");

/// (user, device, algorithm): the fallback key.
pub(crate) const FALLBACK_KEYS: Table<(UserSn, String, String), FallbackKey> =
    Table::source(Family::Keys, 5, "fallback_keys");

/// (user, device): how many one-time keys there are and which fallback keys are unused, for /sync.
pub(crate) const KEY_COUNTS: Table<(UserSn, String), At<Counts>> =
    Table::derived(Family::Keys, 6, "key_counts", "users::check");

/// (user, [`crate::keys::cross_signing::Usage`] as a number): canonical JSON without `unsigned`.
pub(crate) const CROSS_SIGNING_KEYS: Table<(UserSn, u8), Blob> =
    Table::source(Family::Keys, 7, "cross_signing_keys");

/// (signer, owner): the signer's signature over the owner's master key, for the signer's eyes only.
pub(crate) const USER_SIGNATURES: Table<(UserSn, UserSn), At<UserSignature>> =
    Table::source(Family::Keys, 8, "user_signatures");

/// (signer, where committed, owner): the log over [`USER_SIGNATURES`].
pub(crate) const USER_SIGNATURE_LOG: Table<(UserSn, Position, UserSn), ()> =
    Table::derived(Family::Keys, 9, "user_signature_log", "users::check");

/// user: where the user's keys changed last.
pub(crate) const DEVICE_LISTS: Table<UserSn, At<()>> =
    Table::source(Family::Keys, 10, "device_lists");

/// (where committed, user): the log over [`DEVICE_LISTS`], one row per user.
pub(crate) const DEVICE_LIST_LOG: Table<(Position, UserSn), ()> =
    Table::derived(Family::Keys, 11, "device_list_log", "users::check");

/// user of another server: how far their kept keys can be trusted.
pub(crate) const REMOTE_LISTS: Table<UserSn, RemoteList> =
    Table::source(Family::Keys, 15, "remote_lists");

/// (user of another server, device): the name that is shown with the device's keys.
pub(crate) const REMOTE_DEVICE_NAMES: Table<(UserSn, String), String> =
    Table::source(Family::Keys, 16, "remote_device_names");
/// (where committed, user, device): what changed of a user's keys, with where they changed before that. For other
/// servers; kept until all of them were told, or can see by [`DEVICE_LIST_LOG`] that they were not.
pub(crate) const DEVICE_CHANGES: Table<(Position, UserSn, String), Previous> =
    Table::source(Family::Keys, 17, "device_changes");

/// (user, version): a key backup.
pub(crate) const BACKUPS: Table<(UserSn, u64), Backup> = Table::source(Family::Keys, 12, "backups");

/// (user, version, room id, session id): a key in a backup.
pub(crate) const BACKUP_KEYS: Table<(UserSn, u64, String, String), BackedUpKey> =
    Table::source(Family::Keys, 13, "backup_keys");

/// user: the dehydrated device.
pub(crate) const DEHYDRATED_DEVICES: Table<UserSn, DehydratedDevice> =
    Table::source(Family::Keys, 14, "dehydrated_devices");

/// (user, device, where sent, number in the change): a message waiting for the device, as /sync shows it.
pub(crate) const TO_DEVICE: Table<(UserSn, String, Position, u32), Blob> =
    Table::source(Family::ToDevice, 1, "to_device");

/// (day, sender, sending device, event type, transaction id): a /sendToDevice that was done.
pub(crate) const TO_DEVICE_TRANSACTIONS: Table<(u32, UserSn, String, String, String), ()> =
    Table::source(Family::Transactions, 61, "to_device_transactions");

/// (day, server, message id): a to-device message of another server that was taken in.
pub(crate) const REMOTE_MESSAGES: Table<(u32, String, String), ()> =
    Table::source(Family::Transactions, 62, "remote_messages");
