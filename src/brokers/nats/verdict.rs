//! Which sessions are to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::lock;
use super::reaches::{Named, Reaches};
use super::sessions::Connection;
use crate::api::DeviceClass;
use crate::gateway::Authenticator;
use crate::policy::{Decision, Reason, Session};
use crate::text::Text;

/// What is to become of a session.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on, until this time if there is one.
    Stays(Option<Timestamp>),
    /// It is to end.
    Ends(Session, Reason),
}

/// Looks at sessions one after the other. What those of a key have in common is looked up once.
pub struct Judge<'a> {
    authenticator: &'a Authenticator,
    reaches: &'a Mutex<Reaches>,
    now: HashMap<(Text, Option<Text>), Arc<Named>>,
}

impl<'a> Judge<'a> {
    /// One that looks at all sessions.
    pub fn new(authenticator: &'a Authenticator, reaches: &'a Mutex<Reaches>) -> Judge<'a> {
        Judge {
            authenticator,
            reaches,
            now: HashMap::new(),
        }
    }

    /// What is to become of this one; none if it is nobody that was admitted here.
    pub fn judge(&mut self, connection: &Connection) -> Option<Verdict> {
        let name = connection.name()?;
        let session = self.authenticator.session_of(name.device_id, name.key)?;
        let session = Session {
            revision: Some(name.revision),
            source: connection.source(),
            ..session
        };
        match self.authenticator.confirm(&session) {
            Decision::Deny(reason) => return Some(Verdict::Ends(session, reason)),
            Decision::Unavailable => return Some(Verdict::Stays(None)),
            Decision::Allow(()) => {}
        }
        let Some(now) = self.now(&session) else {
            return Some(Verdict::Ends(session, Reason::UnknownKey));
        };
        if !lock(self.reaches).is_kept(&name.digest, &now) {
            return Some(Verdict::Ends(session, Reason::Topic));
        }
        let granted = self.authenticator.granted(&session);
        Some(Verdict::Stays(granted.and_then(|granted| granted.ends)))
    }

    fn now(&mut self, session: &Session) -> Option<Arc<Named>> {
        let is_gateway = session.class == DeviceClass::Gateway;
        let own = is_gateway.then(|| session.device_id.clone());
        let whose = (session.key.clone(), own);
        if let Some(known) = self.now.get(&whose) {
            return Some(Arc::clone(known));
        }
        let reach = self.authenticator.reach(session)?;
        let named = lock(self.reaches).name(reach);
        self.now.insert(whose, Arc::clone(&named));
        Some(named)
    }
}

/// Whether a session that ends for this reason may come back at once.
pub fn may_return(reason: Reason) -> bool {
    reason == Reason::Topic
}
