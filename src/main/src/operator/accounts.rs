//! The accounts in the operator's hands: the rules for new ones hold here too, but nobody is asked for a password of
//! the account, and registration may be closed.

use api::App;
use api::client::account::close;
use api::client::devices::change_of_devices;
use api::client::registration::{NewAccount, create as create_account};
use api::error::ApiError;
use api::passwords;
use names::UserSn;
use node::Lock;
use users::accounts::{self, Account, Kind, localpart_problem};
use users::devices;

use super::output::Output;

/// Accounts read at once for a list.
const LIST_CHUNK: usize = 1000;

/// Why an account was not touched.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    #[error("{name} can't be the name of an account: {problem}")]
    Name { name: String, problem: &'static str },
    #[error("there is no account {user_id}")]
    Unknown { user_id: String },
    #[error("{}", .0.message())]
    Api(ApiError),
    #[error(transparent)]
    Users(#[from] users::Error),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Node(#[from] node::NodeError),
}

impl From<ApiError> for AccountsError {
    fn from(error: ApiError) -> Self {
        AccountsError::Api(error)
    }
}

/// A new account.
pub struct New {
    /// The localpart, or the whole user id.
    pub name: String,
    /// None: nobody can log in by password.
    pub password: Option<String>,
    pub admin: bool,
    /// The localpart if none.
    pub display_name: Option<String>,
}

/// Makes an account and returns its user id.
pub async fn create(app: &App, new: New) -> Result<String, AccountsError> {
    let user_id = user_id(app, &new.name);
    let localpart = localpart(app, &user_id).to_owned();
    if let Some(problem) = localpart_problem(&localpart, &user_id) {
        return Err(AccountsError::Name {
            name: new.name,
            problem,
        });
    }
    let hash = match new.password {
        Some(password) => Some(new_hash(app, password).await?),
        None => None,
    };
    let mut account = Account::new(Kind::User, app.node().now_ms(), hash);
    account.admin = new.admin;
    let new = NewAccount {
        account,
        displayname: new.display_name.unwrap_or_else(|| localpart.clone()),
        localpart,
        registration_token: None,
        wish: None,
    };
    create_account(app, new).await?;
    Ok(user_id)
}

/// Gives an account another password, and logs its devices out unless `keep_devices`.
pub async fn reset_password(
    app: &App,
    name: &str,
    password: String,
    keep_devices: bool,
) -> Result<(), AccountsError> {
    let user = existing(app, name)?;
    let hash = new_hash(app, password).await?;
    let guard = app.node().lock(Lock::User(user)).await;
    let mut txn = app.node().begin();
    accounts::update(&mut txn, user, |account| account.password_hash = Some(hash))?;
    let mut touched = node::Touched::nobody();
    if !keep_devices {
        devices::delete_all(&mut txn, user, None)?;
        touched = change_of_devices(app, user)?;
    }
    let _forgetting = app.sessions().forgetting(user);
    app.node().commit(guard, txn, touched).await?;
    Ok(())
}

/// Closes an account for good.
pub async fn deactivate(app: &App, name: &str, erase: bool) -> Result<(), AccountsError> {
    let user = existing(app, name)?;
    Ok(close(app, user, erase).await?)
}

/// A line for each account: its user id, when it was made in seconds since 1970, and what is special about it.
pub fn list(app: &App, deactivated: bool, out: Output<'_>) -> Result<(), AccountsError> {
    let view = app.node().view();
    let mut after = None;
    loop {
        let chunk = accounts::list(&view, after, LIST_CHUNK)?;
        let Some((last, _)) = chunk.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (user, account) in &chunk {
            if account.deactivated && !deactivated {
                continue;
            }
            let user_id = names::user_id(&view, *user)?;
            out.print(format!(
                "{user_id}\t{}\t{}",
                account.created_ms / 1000,
                marks(account)
            ));
        }
    }
}

fn marks(account: &Account) -> String {
    let all = [
        (account.admin, "admin"),
        (account.kind == Kind::Guest, "guest"),
        (account.locked, "locked"),
        (account.suspended, "suspended"),
        (account.deactivated, "deactivated"),
        (account.erased, "erased"),
    ];
    let mut marks = Vec::new();
    for (is, mark) in all {
        if is {
            marks.push(mark);
        }
    }
    marks.join(",")
}

async fn new_hash(app: &App, password: String) -> Result<String, AccountsError> {
    passwords::check_new(&app.config().password, &password)?;
    Ok(app.passwords().hash(app.node(), password).await?)
}

/// `alice` and `@alice:example.org` are the same.
fn user_id(app: &App, name: &str) -> String {
    if name.starts_with('@') {
        name.to_owned()
    } else {
        format!("@{name}:{}", app.node().server_name())
    }
}

/// The localpart of a user id of this server; of another's, the whole, which no localpart can be.
fn localpart<'a>(app: &App, user_id: &'a str) -> &'a str {
    let server = app.node().server_name();
    let inner = user_id
        .strip_prefix('@')
        .and_then(|rest| rest.strip_suffix(server));
    inner
        .and_then(|rest| rest.strip_suffix(':'))
        .unwrap_or(user_id)
}

fn existing(app: &App, name: &str) -> Result<UserSn, AccountsError> {
    let user_id = user_id(app, name);
    let head = app.node().store().head();
    match names::user_sn(&head, &user_id)? {
        Some(user) if accounts::exists(&head, user)? => Ok(user),
        _ => Err(AccountsError::Unknown { user_id }),
    }
}
