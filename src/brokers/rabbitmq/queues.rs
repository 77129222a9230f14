//! The two queues of a device, one for each quality of service, which outlive its sessions.
//!
//! A client that asks to stay (`clean_session` 0) finds its queue as it left it, with the bindings that its subscriptions
//! made. RabbitMQ asks nothing when it comes back, also not for another key. So it is looked at before the device is
//! admitted, and what it may not have is deleted, with all that waits there.

use futures::future::try_join_all;
use tracing::debug;

use super::management::Management;
use super::way::ManagementError;
use super::{EXCHANGE, SUBSCRIBE, mqtt};
use crate::gateway::Authenticator;
use crate::policy::{Decision, Session};

/// Those of the device that presents itself by this ID.
pub fn of(client_id: &str) -> [String; 2] {
    [0, 1].map(|qos| format!("mqtt-subscription-{client_id}qos{qos}"))
}

/// Admits the session once it inherits nothing that it may not have.
pub async fn inherit(
    authenticator: &Authenticator,
    management: &Management,
    client_id: &str,
    session: Session,
) -> Decision {
    let queues = of(client_id);
    let clear = queues
        .iter()
        .map(|queue| clear(authenticator, management, &session, queue));
    match try_join_all(clear).await {
        Ok(cleared) if cleared.iter().all(|is_known| *is_known) => Decision::Allow(session),
        Ok(_) => Decision::Unavailable,
        Err(error) => {
            // Many may come meanwhile; who looks at sessions says that there is something to mend.
            debug!("{client_id} is told to try again: {error}");
            Decision::Unavailable
        }
    }
}

/// Deletes a queue if a binding of it is not for this session. Whether that could be told.
async fn clear(
    authenticator: &Authenticator,
    management: &Management,
    session: &Session,
    queue: &str,
) -> Result<bool, ManagementError> {
    let bindings = management.bindings_of(queue).await?;
    let subscriptions = bindings.iter().filter(|binding| binding.source == EXCHANGE);
    for binding in subscriptions {
        let filter = mqtt(&binding.routing_key);
        match authenticator.confirm_act(session, SUBSCRIBE, &filter) {
            Decision::Allow(()) => {}
            Decision::Deny(_) => {
                management.delete_queue(queue).await?;
                return Ok(true);
            }
            Decision::Unavailable => return Ok(false),
        }
    }
    Ok(true)
}
