//! The plugin: an adapter, and a thread that keeps up with the API server.

use std::sync::Arc;

use keyward::brokers::mosquitto::Adapter;

use crate::abi::Broker;
use crate::log;
use crate::settings::Settings;
use crate::worker::{StartError, Worker};

/// Lives as long as the broker has it loaded.
pub struct Plugin {
    /// Answers.
    pub adapter: Arc<Adapter>,
    worker: Worker,
}

impl Plugin {
    /// Starts with these options.
    ///
    /// # Errors
    /// When it cannot: one sentence that says what to change.
    pub fn start(options: &[(String, String)]) -> Result<Plugin, StartError> {
        let settings = Settings::read(options)?;
        log::begin(&settings.log_level)?;
        let (adapter, worker) = Worker::start(settings)?;
        Ok(Plugin { adapter, worker })
    }

    /// What is to be done on the broker's thread, from time to time.
    pub fn tick(&self, broker: &Broker) {
        let has_gone_on = self.adapter.tick();
        while let Some(cut) = self.adapter.next_cut() {
            let is_known = cut.client_id().is_some_and(|id| broker.kick(&id));
            self.adapter.was_cut(&cut, is_known);
        }
        if has_gone_on {
            log::drain().iter().for_each(|line| broker.log(line));
        }
    }

    /// Ends, and its threads with it.
    pub fn end(self) {
        self.worker.end();
    }
}
