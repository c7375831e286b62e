//! How this server reaches others, as its configuration says.

use std::sync::Arc;

use arc_swap::ArcSwap;
use config::Config;
use remote::{Observer, Options, Proxy, Rules};

use super::audit::{Audit, Crossing};
use super::policy::{self, Direction};
use crate::{NodeError, now_ms};

/// The options of outgoing requests. The rules are those of the configuration in force at each request.
///
/// # Errors
/// If the file of certificate authorities can't be read.
pub(crate) fn options(
    shared: &Arc<ArcSwap<Config>>,
    audit: &Arc<Audit>,
) -> Result<Options, NodeError> {
    let config = shared.load_full();
    let federation = &config.federation;
    let extra_ca = match &federation.extra_ca {
        Some(path) => Some(std::fs::read(path).map_err(|source| NodeError::File {
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let credentials = match (&federation.proxy_user, &federation.proxy_password) {
        (Some(user), Some(password)) => Some((user.as_str(), password.reveal())),
        _ => None,
    };
    let proxy = federation.proxy.as_deref();
    let judging = Arc::clone(shared);
    let rules = Rules::new(move |server_name, path| {
        let config = judging.load();
        let own_name = config.server_name.as_str();
        policy::judge(&config.federation, own_name, server_name, path)
            .map_err(|reason| reason.to_string())
    });
    let (noting, asked, audit) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(audit));
    let observer = Observer::new(
        move || asked.load().federation.audit,
        move |exchange| {
            let config = noting.load();
            let crossing = Crossing {
                direction: Direction::Out,
                server: exchange.server_name,
                is_proved: true,
                method: exchange.method,
                target: exchange.path,
                body: exchange.body,
                answer_bytes: exchange.answer_bytes,
                outcome: exchange.outcome.clone(),
                took: exchange.took,
            };
            let own_name = config.server_name.as_str();
            audit.note(&config.federation, own_name, now_ms(), &crossing);
        },
    );
    Ok(Options {
        enabled: federation.enabled,
        extra_ca,
        allow_private_networks: federation.allow_private_networks,
        proxy: proxy.and_then(|authority| Proxy::new(authority, credentials)),
        rules,
        observer,
    })
}
