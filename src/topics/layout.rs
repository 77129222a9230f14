//! Where the topics of devices lie: the root, and what a namespace adds to it.

use std::str::FromStr;

use thiserror::Error;

use super::filters::Filter;

/// What `--topic-root` names: levels, one of which may be `{namespace}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Root(Vec<RootLevel>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum RootLevel {
    Literal(Box<str>),
    Namespace,
}

impl Root {
    fn names_namespace(&self) -> bool {
        self.0.contains(&RootLevel::Namespace)
    }
}

impl Default for Root {
    fn default() -> Root {
        Root(vec![RootLevel::Literal("devices".into())])
    }
}

impl FromStr for Root {
    type Err = InvalidRoot;

    fn from_str(text: &str) -> Result<Root, InvalidRoot> {
        let levels = text.split('/').map(|level| match level {
            "{namespace}" => Ok(RootLevel::Namespace),
            _ if is_literal(level) => Ok(RootLevel::Literal(level.into())),
            _ => Err(InvalidRoot::Level(level.to_owned())),
        });
        let root = Root(levels.collect::<Result<_, _>>()?);
        if text.starts_with('$') {
            return Err(InvalidRoot::Dollar);
        }
        if root
            .0
            .iter()
            .filter(|level| **level == RootLevel::Namespace)
            .count()
            > 1
        {
            return Err(InvalidRoot::Twice);
        }
        Ok(root)
    }
}

fn is_literal(level: &str) -> bool {
    !level.is_empty() && !level.contains(['+', '#', '*', '>', '{', '}', '\0'])
}

/// How the topics of a gateway are laid out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    root: Root,
    /// Whether custom topics lie below a level that names the namespace.
    has_several: bool,
}

impl Layout {
    /// Of a gateway that serves one namespace.
    pub fn of_one_namespace(root: Root) -> Layout {
        Layout {
            root,
            has_several: false,
        }
    }

    /// Of a gateway that serves several namespaces. Device IDs are presented with theirs, and custom
    /// topics lie below it.
    ///
    /// # Errors
    /// When the root does not name the namespace: devices of different namespaces would mix.
    pub fn of_several_namespaces(root: Root) -> Result<Layout, InvalidRoot> {
        if !root.names_namespace() {
            return Err(InvalidRoot::NoNamespace);
        }
        Ok(Layout {
            root,
            has_several: true,
        })
    }

    /// Whether the gateway serves several namespaces.
    pub fn has_several(&self) -> bool {
        self.has_several
    }

    /// The topic of this kind of a device.
    pub fn device_topic(&self, namespace: &str, device_id: &str, kind: &str) -> String {
        let mut levels = self.root_of(namespace);
        levels.extend([device_id, kind]);
        levels.join("/")
    }

    /// The filter of all that is reserved, in every namespace.
    pub(super) fn reserved(&self) -> Filter<'_> {
        let mut reserved = self.root_of("+");
        reserved.push("#");
        reserved
    }

    /// What is left of a filter below the root of this namespace; none if it can match anything
    /// else.
    pub(super) fn below_root<'a, 'f>(
        &self,
        namespace: &str,
        filter: &'a [&'f str],
    ) -> Option<&'a [&'f str]> {
        let root = self.root_of(namespace);
        let (begin, rest) = filter.split_at_checked(root.len())?;
        (begin == root).then_some(rest)
    }

    /// A filter of a key of this namespace, outside the root.
    pub(super) fn custom<'a>(&self, namespace: &'a str, filter: &'a str) -> Filter<'a> {
        let namespace = self.has_several.then_some(namespace);
        namespace.into_iter().chain(filter.split('/')).collect()
    }

    fn root_of<'a>(&'a self, namespace: &'a str) -> Filter<'a> {
        let levels = self.root.0.iter();
        levels
            .map(|level| match level {
                RootLevel::Literal(level) => level,
                RootLevel::Namespace => namespace,
            })
            .collect()
    }
}

/// Why a topic root cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InvalidRoot {
    /// A level is empty, or holds what a topic's cannot.
    #[error(
        "the level {0:?} of the topic root must be {{namespace}}, or not be empty and hold none of \
         + # * > {{ }}"
    )]
    Level(String),
    /// It begins with `$`.
    #[error("the topic root must not begin with $, since brokers keep such topics to themselves")]
    Dollar,
    /// It names the namespace more than once.
    #[error("the topic root must hold {{namespace}} once")]
    Twice,
    /// Several namespaces would share it.
    #[error(
        "a gateway for several namespaces needs a topic root that holds {{namespace}}, such as \
         {{namespace}}/devices: add it, or name exactly one --namespace"
    )]
    NoNamespace,
}
