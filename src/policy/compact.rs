//! What records are made of. A gateway keeps one of each key, so what is mostly alone takes no allocation of its own,
//! and lies beside what it is looked at with.

use std::cmp::Ordering;
use std::ops::{Deref, DerefMut};

use crate::devices::is_device_id;
use crate::text::Text;

/// A list that is mostly of one.
#[derive(Clone, Debug)]
pub(super) enum Few<T> {
    One([T; 1]),
    Others(Box<[T]>),
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => one,
            Self::Others(all) => all,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::One(one) => one,
            Self::Others(all) => all,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let all: Vec<T> = all.into_iter().collect();
        match all.try_into() {
            Ok(one) => Self::One(one),
            Err(all) => Self::Others(all.into()),
        }
    }
}

/// Device IDs in their order, a line each.
#[derive(Clone, Debug)]
pub(super) struct Ids(Text);

impl Ids {
    /// What no device can present is left out.
    pub fn of(ids: &[String]) -> Self {
        let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        ids.retain(|id| is_device_id(id));
        ids.sort_unstable();
        Self(ids.join("\n").into())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split('\n').filter(|id| !id.is_empty())
    }

    /// Whether this is one of them.
    pub fn hold(&self, id: &str) -> bool {
        // Mostly there is one.
        if self.0 == *id {
            return is_device_id(id);
        }
        let mut rest = self.0.as_str();
        while !rest.is_empty() {
            let middle = rest.len() / 2;
            let begin = rest[..middle].rfind('\n').map_or(0, |end| end + 1);
            let end = rest[begin..].find('\n');
            let end = end.map_or(rest.len(), |length| begin + length);
            match rest[begin..end].cmp(id) {
                Ordering::Less => rest = rest.get(end + 1..).unwrap_or_default(),
                Ordering::Equal => return true,
                Ordering::Greater => rest = &rest[..begin.saturating_sub(1)],
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_holds_its_ids_and_nothing_else(ids in prop::collection::vec("[a-c-]{1,3}", 0..40)) {
            let list = Ids::of(&ids);
            prop_assert!(list.iter().all(|id| list.hold(id)));
            for id in short_texts() {
                prop_assert_eq!(list.iter().any(|one| one == id), list.hold(&id));
                prop_assert_eq!(list.hold(&id), ids.contains(&id), "{} in {:?}", id, ids);
            }
        }

        #[test]
        fn a_few_are_as_many_as_they_were(all in prop::collection::vec(0..9, 0..4)) {
            let mut few: Few<i32> = all.iter().copied().collect();
            prop_assert_eq!(&*few, &*all);
            few.iter_mut().for_each(|one| *one += 1);
            prop_assert!(few.iter().zip(&all).all(|(one, before)| *one == before + 1));
        }
    }

    fn short_texts() -> Vec<String> {
        let parts = ["", "-", "a", "b", "c", "d", "\n"];
        let pairs = parts
            .iter()
            .flat_map(|one| parts.map(|two| format!("{one}{two}")));
        let three = |pair: String| parts.map(|third| format!("{pair}{third}"));
        pairs.flat_map(three).collect()
    }

    #[test]
    fn what_no_device_can_present_is_on_no_list() {
        let list = Ids::of(&["a\nb".to_owned(), String::new(), "c".to_owned()]);
        assert!(list.hold("c"));
        for other in ["a", "b", "a\nb", "", "\n"] {
            assert!(!list.hold(other), "{other:?}");
        }
    }
}
