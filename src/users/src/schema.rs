//! The tables of users: every key and value type, said once.
//!
//! Table ids are unique within a family. Accounts and what hangs on them take Users 1..60 and Rooms
//! 100..149; end-to-end encryption takes Keys, ToDevice, Users 61..99 and Rooms 150..199.

use names::{RoomSn, UserSn};
use store::{At, Blob, Family, Position, Table, TableInfo};

use crate::accounts::{Account, Threepid};
use crate::devices::{Device, Seen};
use crate::directory::Entry;
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
pub const DEVICE_TOKENS: Table<(UserSn, String, TokenHash), DeviceToken> = Table::derived(
    Family::Users,
    6,
    "device_tokens",
    "from access_tokens and refresh_tokens",
);
/// Tokens for `m.login.token` by hash.
pub const LOGIN_TOKENS: Table<TokenHash, ShortToken> =
    Table::source(Family::Users, 7, "login_tokens");
/// OpenID tokens by hash.
pub const OPENID_TOKENS: Table<TokenHash, ShortToken> =
    Table::source(Family::Users, 8, "openid_tokens");
/// When login and OpenID tokens expire: time in milliseconds, kind, hash.
pub const TOKEN_EXPIRIES: Table<(u64, u8, TokenHash), ()> = Table::derived(
    Family::Users,
    9,
    "token_expiries",
    "from login_tokens and openid_tokens",
);
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
pub const ACCOUNT_DATA_LOG: Table<(UserSn, Position, RoomSn, String), ()> = Table::derived(
    Family::Users,
    15,
    "account_data_log",
    "from account_data, room_account_data and push_rules",
);
/// Filters by user and id: canonical JSON.
pub const FILTERS: Table<(UserSn, String), Blob> = Table::source(Family::Users, 16, "filters");
/// Push rules as the user changed them.
pub const PUSH_RULES: Table<UserSn, At<Blob>> = Table::source(Family::Users, 17, "push_rules");
/// Pushers: user, app id, pushkey.
pub const PUSHERS: Table<(UserSn, String, String), Pusher> =
    Table::source(Family::Users, 18, "pushers");
/// Who has a pusher: app id, pushkey, user.
pub const PUSHERS_BY_KEY: Table<(String, String, UserSn), ()> =
    Table::derived(Family::Users, 19, "pushers_by_key", "from pushers");
/// Words by which users are found.
pub const DIRECTORY_WORDS: Table<(String, UserSn), ()> = Table::derived(
    Family::Users,
    20,
    "directory_words",
    "from directory_entries",
);
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
];

// Tables of end-to-end encryption: Keys 1.., ToDevice 1.., Users 61..99, Rooms 150..199.
