//! Inviting by an address outside of Matrix, whosever it may be:
//! <https://spec.matrix.org/v1.19/client-server-api/#third-party-invites>.

use names::RoomSn;
use node::federation::Address;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Session;
use crate::client::membership::invite_user;
use crate::client::room_names::sender;
use crate::error::{ApiError, ErrCode};

/// The longest of the texts, in bytes.
const MOST_BYTES: usize = 1024;

/// What a request says of an address; all of it is needed, and clients leave things out.
#[derive(Debug, Deserialize)]
pub struct AddressParts {
    id_server: Option<String>,
    id_access_token: Option<String>,
    medium: Option<String>,
    address: Option<String>,
}

impl AddressParts {
    /// Whether it is no address that the request is about.
    pub fn says_nothing(&self) -> bool {
        self.medium.is_none() && self.address.is_none()
    }

    /// The address, if it may be looked up where the client wants that.
    pub fn checked(self, app: &App) -> Result<Address, ApiError> {
        let missing = |key| ApiError::missing_param(format!("{key} is missing"));
        let is_allowed = app
            .node()
            .allows_identity_server(self.id_server.as_deref().unwrap_or_default());
        let Some(is_allowed) = is_allowed else {
            return Err(ApiError::new(
                ErrCode::ThreepidDenied,
                "This server does not invite by third-party identifiers",
            ));
        };
        let address = Address {
            id_server: self.id_server.ok_or_else(|| missing("id_server"))?,
            id_access_token: self
                .id_access_token
                .ok_or_else(|| missing("id_access_token"))?,
            medium: self.medium.ok_or_else(|| missing("medium"))?,
            address: self.address.ok_or_else(|| missing("address"))?,
        };
        if !is_allowed {
            return Err(ApiError::new(
                ErrCode::ServerNotTrusted,
                "This server does not trust that identity server",
            ));
        }
        let texts = [&address.id_access_token, &address.medium, &address.address];
        if texts.iter().any(|text| text.len() > MOST_BYTES) {
            return Err(ApiError::invalid_param("That is too long"));
        }
        Ok(address)
    }
}

/// Invites whom the address belongs to; where nobody knows, whoever proves that it is theirs.
pub async fn invite_address(
    app: &App,
    session: &Session,
    room: RoomSn,
    address: &Address,
    reason: Option<&str>,
    is_direct: bool,
) -> Result<(), ApiError> {
    let (node, me) = (app.node(), sender(session));
    node.must_be_able_to_invite(room, me)?;
    match node.whose_address(address).await? {
        Some(user_id) => invite_user(app, session, room, &user_id, reason, is_direct).await,
        None => Ok(node.invite_address(room, me, address).await?),
    }
}
