//! What a key grants outside the topic root.

use serde::Serialize;
use thiserror::Error;

use super::Action;
use crate::api::{TopicFilter, Topics};

/// Topics beyond those of devices.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub enum Grants {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those that a filter of the list matches.
    AllowList(Box<Lists>),
    /// All but those that a filter of the list matches.
    DenyList(Box<Lists>),
}

/// A list for each direction. In a filter `{device}` stands for the ID of the session's device.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Lists {
    publish: Box<[Box<str>]>,
    subscribe: Box<[Box<str>]>,
}

impl Grants {
    /// Reads what an AccessKey says.
    ///
    /// # Errors
    /// When it is not such as the API server accepts.
    pub fn of(topics: &Topics) -> Result<Grants, UnreadableFilter> {
        let lists = Lists {
            publish: read(&topics.publish)?,
            subscribe: read(&topics.subscribe)?,
        };
        let is_empty = lists.publish.is_empty() && lists.subscribe.is_empty();
        let lists = Box::new(lists);
        match (topics.filter, is_empty) {
            (TopicFilter::None, true) => Ok(Grants::None),
            (TopicFilter::All, true) => Ok(Grants::All),
            (TopicFilter::AllowList, false) => Ok(Grants::AllowList(lists)),
            (TopicFilter::DenyList, false) => Ok(Grants::DenyList(lists)),
            (TopicFilter::None | TopicFilter::All, false) => Err(UnreadableFilter::Unused),
            (TopicFilter::AllowList | TopicFilter::DenyList, true) => Err(UnreadableFilter::Empty),
        }
    }
}

impl Lists {
    /// The filters of topics to send to, for this device.
    pub fn publish_for(&self, device_id: &str) -> Vec<String> {
        let filters = self.publish.iter();
        filters
            .map(|filter| for_device(filter, device_id))
            .collect()
    }

    /// The filters of topics to receive from, for this device.
    pub fn subscribe_for(&self, device_id: &str) -> Vec<String> {
        let filters = self.subscribe.iter();
        filters
            .map(|filter| for_device(filter, device_id))
            .collect()
    }

    /// The list that counts for this.
    pub(super) fn of(&self, action: Action) -> &[Box<str>] {
        match action {
            Action::Publish { .. } => &self.publish,
            Action::Subscribe { .. } | Action::Receive => &self.subscribe,
        }
    }
}

/// The filter as it is for this device.
pub(super) fn for_device(filter: &str, device_id: &str) -> String {
    filter.replace(DEVICE, device_id)
}

fn read(filters: &[String]) -> Result<Box<[Box<str>]>, UnreadableFilter> {
    let read = |filter: &String| {
        if is_filter(filter) {
            Ok(filter.as_str().into())
        } else {
            Err(UnreadableFilter::Shape(filter.clone()))
        }
    };
    filters.iter().map(read).collect()
}

/// Whether this may be granted: levels without `*`, `>` and braces but those of `{device}`, or `+`
/// alone, and `#` alone as the last.
fn is_filter(filter: &str) -> bool {
    let literal = |level: &str| {
        let rest = level.replace(DEVICE, "");
        !rest.contains(['+', '#', '*', '>', '{', '}', '\0'])
    };
    let levels = filter.strip_suffix("/#").unwrap_or(filter);
    let is_lawful = (1..=MAX_FILTER).contains(&filter.chars().count()) && !filter.starts_with('$');
    is_lawful
        && (filter == "#"
            || levels
                .split('/')
                .all(|level| level == "+" || literal(level)))
}

/// Why what an AccessKey says about topics cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UnreadableFilter {
    /// A list that is asked for and not there.
    #[error(
        "topics.publish and topics.subscribe are empty: an AllowList or DenyList needs a filter"
    )]
    Empty,
    /// A list that would have no effect.
    #[error("topics.publish and topics.subscribe need topics.filter AllowList or DenyList")]
    Unused,
    /// No filter that may be granted.
    #[error("topics has {0:?}, which is no filter with the wildcards + and # only")]
    Shape(String),
}

const DEVICE: &str = "{device}";

/// Characters, as the schema counts.
const MAX_FILTER: usize = 1024;
