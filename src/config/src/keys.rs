//! The keys: every key of the configuration with its type, default and documentation, and nothing else.
//!
//! `docs/configuration.md` and the example are generated from this file; a test fails when they are stale.
//! Values are checked one by one by their types, and against each other in `check`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::pattern::Pattern;
use crate::setting::section;
use crate::types::{
    Api, ApiSet, Bind, ByteSize, ContactRole, DirectoryScope, FileMode, Level, LogFilter,
    LogFormat, Rate, RegistrationMode, RoomVersion, Secret, ServerName, SyncMode,
};

section! {
    /// The configuration of a server.
    pub struct Config {
        /// The name of the server: what stands after the colon in the identifiers of its users, as in
        /// `@alice:example.org`. It can't be changed once there are users or rooms.
        @required server_name: ServerName = ServerName::local() => "\"example.org\"";
        /// The folder that holds everything the server must keep: database, media, signing key.
        /// Back it up with `meyrin db backup`, not by copying it while the server runs.
        data_dir: PathBuf = PathBuf::from("/var/lib/meyrin");
        /// Where the server accepts connections. Give `[[listen]]` once for each address.
        listen: Vec<Listen> = vec![Listen::default()];
        /// Connections and requests.
        http: Http = Http::default();
        /// Who may make an account.
        registration: Registration = Registration::default();
        /// Guest accounts.
        guests: Guests = Guests::default();
        /// Passwords.
        password: Password = Password::default();
        /// Logins and their tokens.
        sessions: Sessions = Sessions::default();
        /// Rate limits. Above one, a request is answered 429 `M_LIMIT_EXCEEDED` with the time to wait. A rate
        /// is a bucket: `burst` at once, then `per_second`.
        limits: Limits = Limits::default();
        /// The connection to other homeservers.
        federation: Federation = Federation::default();
        /// Invitations of e-mail addresses and telephone numbers.
        identity_servers: IdentityServers = IdentityServers::default();
        /// The database.
        storage: Storage = Storage::default();
        /// Uploaded files.
        media: Media = Media::default();
        /// Rooms.
        rooms: Rooms = Rooms::default();
        /// The search for users.
        user_directory: UserDirectory = UserDirectory::default();
        /// Who is online.
        presence: Presence = Presence::default();
        /// Application services: bridges and bots.
        appservices: Appservices = Appservices::default();
        /// The TURN server that calls go through when there is no direct way.
        turn: Turn = Turn::default();
        /// The files under `/.well-known/matrix/`, by which clients and servers find this server when
        /// its name is not its address.
        well_known: WellKnown = WellKnown::default();
        /// The log, on standard error.
        log: Log = Log::default();
        /// Threads.
        runtime: Runtime = Runtime::default();
    }
}

section! {
    /// Where the server accepts connections.
    pub struct Listen {
        /// An IP address and a port, or `unix:` and the path of a socket.
        bind: Bind = Bind::Tcp(([127, 0, 0, 1], 8008).into()) => "\"127.0.0.1:8008\"";
        /// The certificate chain (PEM). With it the listener speaks TLS; without, put a reverse proxy in
        /// front. The file is read again on reload.
        tls_cert: Option<PathBuf> = None => "\"cert.pem\"";
        /// The private key (PEM) of `tls_cert`.
        tls_key: Option<PathBuf> = None => "\"key.pem\"";
        /// What is served here.
        apis: ApiSet = ApiSet::of(&[Api::Client, Api::Federation]);
        /// The permissions of a unix socket.
        socket_mode: FileMode = FileMode(0o660);
    }
}

section! {
    /// Connections and requests.
    pub struct Http {
        /// Connections open at once on all listeners; one more is answered 503 and closed.
        max_connections: u32 = 40_000;
        /// The largest body of a request, uploads aside.
        max_body_size: ByteSize = ByteSize::mib(10);
        /// The time a client has to send the head of a request.
        header_timeout: Duration = Duration::from_secs(15);
        /// The longest pause while a client sends a body. A JSON body may take twice as long in whole.
        body_timeout: Duration = Duration::from_secs(30);
        /// The longest that a `/sync` waits, whatever the client asks for.
        @live max_sync_timeout: Duration = Duration::from_secs(90);
        /// The time that requests have to finish when the server stops.
        drain_timeout: Duration = Duration::from_secs(5);
        /// Reverse proxies whose `X-Forwarded-For` tells the client's address. Proxies on unix sockets are
        /// always trusted.
        @live trusted_proxies: Vec<IpNet> = loopback();
    }
}

fn loopback() -> Vec<IpNet> {
    vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST).into(),
        IpAddr::V6(Ipv6Addr::LOCALHOST).into(),
    ]
}

section! {
    /// Who may make an account.
    pub struct Registration {
        /// `"open"` lets anybody in who can reach the server; `"token"` asks for one of `tokens`; with
        /// `"closed"` accounts are made by `meyrin user create` or by `shared_secret`.
        @live mode: RegistrationMode = RegistrationMode::Closed;
        /// Tokens that are good for any number of accounts in mode `"token"`.
        @live tokens: Vec<Secret> = Vec::new() => "[\"a long random text\"]";
        /// Enables `/_synapse/admin/v1/register`: who knows the secret makes accounts in every mode.
        @live shared_secret: Option<Secret> = None => "\"a long random text\"";
    }
}

section! {
    /// Guest accounts.
    pub struct Guests {
        /// Lets people without an account look into rooms that allow guests.
        @live enabled: bool = false;
    }
}

section! {
    /// Passwords.
    pub struct Password {
        /// Lets users log in by password.
        @live login: bool = true;
        /// The fewest characters of a new password.
        @live min_length: u32 = 1 => "12";
        /// New passwords need a digit.
        @live require_digit: bool = false;
        /// New passwords need a character that is neither letter nor digit.
        @live require_symbol: bool = false;
        /// New passwords need a small letter.
        @live require_lowercase: bool = false;
        /// New passwords need a capital letter.
        @live require_uppercase: bool = false;
        /// The memory that hashing one password takes (argon2id). A change applies to new passwords.
        hash_memory: ByteSize = ByteSize::mib(19);
        /// The passes over that memory.
        hash_passes: u32 = 2;
    }
}

section! {
    /// Logins and their tokens.
    pub struct Sessions {
        /// How long an access token is good for in clients that can refresh it; others get tokens that
        /// last until logout.
        @live access_token_lifetime: Duration = Duration::from_secs(3600);
    }
}

section! {
    /// Rate limits.
    pub struct Limits {
        /// False switches every rate limit off.
        @live enabled: bool = true;
        /// Requests of any kind, per user, or per address without one.
        @live request: Rate = Rate::new(100.0, 500);
        /// Events sent, per user.
        @live message: Rate = Rate::new(10.0, 50);
        /// Logins, per address. Whole institutions may share an address.
        @live login_address: Rate = Rate::new(2.0, 60);
        /// Failed logins, per account.
        @live login_account: Rate = Rate::new(0.05, 10);
        /// Registrations, per address.
        @live registration: Rate = Rate::new(0.2, 20);
        /// Rooms made, per user.
        @live create_room: Rate = Rate::new(0.2, 20);
        /// Rooms joined or knocked on, per user.
        @live join: Rate = Rate::new(0.5, 20);
        /// Invites, per inviting user.
        @live invite: Rate = Rate::new(0.5, 30);
        /// Uploads and downloads, per user, or per address without one.
        @live media: Rate = Rate::new(20.0, 200);
        /// Searches of rooms, users and messages, per user.
        @live search: Rate = Rate::new(2.0, 20);
        /// Federation requests, per server. Who is over it waits until it is not, and is refused after a second.
        @live federation: Rate = Rate::new(200.0, 2000);
    }
}

section! {
    /// The connection to other homeservers.
    pub struct Federation {
        /// Talks with other homeservers.
        enabled: bool = true;
        /// Certificate authorities (PEM) that are trusted besides the system's.
        extra_ca: Option<PathBuf> = None => "\"ca.pem\"";
        /// Shows the profiles of this server's users to other servers.
        @live share_profiles: bool = true;
        /// Shows the names of this server's users' devices to other servers, with the devices' keys.
        @live share_device_names: bool = true;
        /// The servers to talk with, by name; `*` stands for anything, and a name without a port for all ports. An
        /// empty list closes federation.
        @live allow: Vec<Pattern> = vec![Pattern::anything()] => "[\"partner.example\", \"*.university.example\"]";
        /// The servers not to talk with, though `allow` has them.
        @live deny: Vec<Pattern> = Vec::new() => "[\"*.spam.example\"]";
        /// Enters a room of another server as soon as its state is here but for its members, and learns those afterwards,
        /// where the other server allows it. Large rooms can be used at once then; what other people say there is
        /// shown once the members are known.
        @live faster_joins: bool = true;
        /// Keeps a record of what crosses: for each request to and from another server a line of JSON in the log, with the
        /// target `audit`. It says who, what, how many events of which rooms, how many bytes, and what became of it.
        @live audit: bool = false;
        /// With `audit`, the file that these lines are appended to as well. It may be moved away at any time.
        @live audit_file: Option<PathBuf> = None => "\"audit.jsonl\"";
        /// A proxy (HTTP, CONNECT) for all connections to other servers: a host and perhaps a port. It resolves names
        /// itself, so it is the one to keep strangers from your other machines.
        proxy: Option<String> = None => "\"proxy.example.org:3128\"";
        /// The user that the proxy asks for.
        proxy_user: Option<String> = None => "\"meyrin\"";
        /// The password of `proxy_user`.
        proxy_password: Option<Secret> = None => "\"a long random text\"";
        /// Servers that are asked for the signing keys of those that do not answer themselves. Without one, events of
        /// servers that are gone can't be checked, and old rooms that hold such can't be joined.
        @live trusted_key_servers: Vec<ServerName> = matrix_org() => "[\"matrix.org\"]";
        /// True lets the server contact loopback and private addresses, for federation, push, previews
        /// and the like. Only for tests and closed networks: otherwise strangers can make the server
        /// knock on your other machines.
        allow_private_networks: bool = false;
        /// What may be shared with certain servers. Give `[[federation.partner]]` once for each; of several that a
        /// server is like, the first counts. Servers that are like none may share everything.
        @live partner: Vec<Partner> = Vec::new();
    }
}

section! {
    /// What may be shared with certain servers.
    pub struct Partner {
        /// Their names; `*` stands for anything.
        servers: Vec<Pattern> = Vec::new() => "[\"*.partner.example\"]";
        /// The rooms that may be shared, by id.
        rooms: Vec<Pattern> = vec![Pattern::anything()] => "[\"!*:example.org\"]";
        /// The users of this server who may be seen and invited.
        users: Vec<Pattern> = vec![Pattern::anything()] => "[\"@guide-*:example.org\"]";
        /// Lets files through, both ways.
        media: bool = true;
    }
}

section! {
    /// Invitations of e-mail addresses and telephone numbers. An identity server tells whose an address is, and writes to
    /// the invited that nobody is known for; it learns who invites whom, and the room's name.
    pub struct IdentityServers {
        /// The identity servers that users may invite by, by name; `*` stands for anything. Without one, only users can be
        /// invited.
        @live allowed: Vec<Pattern> = Vec::new() => "[\"identity.example.org\"]";
    }
}

fn matrix_org() -> Vec<ServerName> {
    ServerName::new("matrix.org").into_iter().collect()
}

section! {
    /// The database.
    pub struct Storage {
        /// When writes are on the disk. `"always"`: before they are acknowledged; nothing acknowledged is
        /// lost, not even when the power fails. `"interval"`: every `sync_interval`; a power failure
        /// costs what was acknowledged in the last interval, a crash of the server nothing. `"never"`:
        /// when the system writes them out; a power failure costs up to about half a minute, a crash of the server
        /// nothing. Many writes share one sync, so `"always"` costs little.
        sync: SyncMode = SyncMode::Always;
        /// The time between two syncs with `sync = "interval"`.
        sync_interval: Duration = Duration::from_secs(1);
        /// Memory for blocks read from the database.
        block_cache: ByteSize = ByteSize::mib(64);
        /// Memory for what was written but is not yet in the database's files.
        write_buffer: ByteSize = ByteSize::mib(64);
        /// Files of the database kept open.
        max_open_files: u32 = 1024;
    }
}

section! {
    /// Uploaded files.
    pub struct Media {
        /// The folder of the files; not set, `media` in `data_dir`.
        path: Option<PathBuf> = None => "\"/srv/meyrin/media\"";
        /// The largest upload.
        @live max_upload_size: ByteSize = ByteSize::mib(50);
        /// Also answers the download paths from before Matrix 1.11, which need no login.
        @live legacy_downloads: bool = true;
        /// Uploads that a user may have announced and not yet sent.
        @live max_pending_uploads: u32 = 20;
        /// How long an announced upload may take.
        @live pending_upload_lifetime: Duration = Duration::from_secs(24 * 3600);
        /// Images with more pixels than this get no thumbnails.
        max_thumbnail_pixels: u32 = 64_000_000;
        /// Memory for making one thumbnail; an image that needs more gets none.
        max_thumbnail_memory: ByteSize = ByteSize::mib(384);
        /// Thumbnails made at once.
        thumbnail_threads: u32 = 2;
    }
}

section! {
    /// Rooms.
    pub struct Rooms {
        /// The version of new rooms when the client does not name one.
        @live default_version: RoomVersion = RoomVersion::V12;
        /// Lets users make rooms; otherwise only administrators can.
        @live allow_creation: bool = true;
        /// Lets users publish their rooms in the room directory.
        @live allow_publishing: bool = true;
        /// Lets other servers search the room directory.
        @live share_directory: bool = true;
    }
}

section! {
    /// The search for users.
    pub struct UserDirectory {
        /// Whom a search finds: `"shared_rooms"`, users who share a room with the searcher or are in a
        /// public room; `"everyone"`, also every user of this server.
        @live scope: DirectoryScope = DirectoryScope::SharedRooms;
    }
}

section! {
    /// Who is online.
    pub struct Presence {
        /// Tells users who is online. Without it nobody is shown as online.
        @live enabled: bool = true;
    }
}

section! {
    /// Application services: bridges and bots.
    pub struct Appservices {
        /// Their registration files (YAML).
        files: Vec<PathBuf> = Vec::new() => "[\"irc.yaml\"]";
    }
}

section! {
    /// The TURN server that calls go through when there is no direct way.
    pub struct Turn {
        /// Its addresses; none, and clients are told of no TURN server.
        @live uris: Vec<String> = Vec::new() => "[\"turn:turn.example.org?transport=udp\"]";
        /// The secret shared with it (`static-auth-secret` of coturn), from which each user gets a
        /// password of their own that expires.
        @live shared_secret: Option<Secret> = None => "\"a long random text\"";
        /// A fixed user name, without a shared secret.
        @live username: Option<String> = None => "\"meyrin\"";
        /// The password of `username`.
        @live password: Option<Secret> = None => "\"a long random text\"";
        /// How long what clients are told is good for.
        @live lifetime: Duration = Duration::from_secs(24 * 3600);
        /// Tells guests as well.
        @live allow_guests: bool = false;
    }
}

section! {
    /// The files under `/.well-known/matrix/`.
    pub struct WellKnown {
        /// The address that clients shall use, given as `m.homeserver`. Not set, there is no file.
        @live client: Option<String> = None => "\"https://matrix.example.org\"";
        /// The name and port that other servers shall use, given as `m.server`. Not set, there is no file.
        @live server: Option<String> = None => "\"matrix.example.org:443\"";
        /// A page with help for users.
        @live support_page: Option<String> = None => "\"https://example.org/help\"";
        /// Whom to turn to.
        @live contacts: Vec<Contact> = Vec::new();
    }
}

section! {
    /// Whom to turn to: with an e-mail address, a Matrix identifier, or both.
    pub struct Contact {
        /// For what.
        role: ContactRole = ContactRole::Admin;
        /// The e-mail address.
        email_address: Option<String> = None => "\"admin@example.org\"";
        /// The Matrix identifier.
        matrix_id: Option<String> = None => "\"@admin:example.org\"";
    }
}

section! {
    /// The log, on standard error.
    pub struct Log {
        /// `"off"`, `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`; after it, if need be, other
        /// levels for modules, as in `"info,api=debug"`.
        @live level: LogFilter = LogFilter::all(Level::Info);
        /// `"text"` for people, `"json"` for programs: one object per line.
        format: LogFormat = LogFormat::Text;
    }
}

section! {
    /// Threads.
    pub struct Runtime {
        /// Threads for connections; not set, one per core.
        io_threads: Option<u32> = None => "4";
        /// Threads for the work on rooms and syncs, at least 2; not set, one per core.
        compute_threads: Option<u32> = None => "4";
    }
}
