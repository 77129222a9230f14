//! The names of namespaces, each kept once: there are few, and many objects in them.

use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

/// Stands for a namespace, in a quarter of the size of a pointer to its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Number(u32);

/// Those that objects were seen in. None is forgotten.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    numbers: HashMap<Arc<str>, Number>,
    names: Vec<Arc<str>>,
}

impl Namespaces {
    /// The number of this namespace, which is the same each time.
    pub fn number(&mut self, name: &str) -> Number {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let next = u32::try_from(self.names.len());
        let next = Number(next.expect("no cluster has as many namespaces"));
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, next);
        next
    }
}

impl Index<Number> for Namespaces {
    type Output = str;

    fn index(&self, Number(number): Number) -> &str {
        &self.names[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_name() {
        let mut namespaces = Namespaces::default();
        let numbers = ["a", "b", "a"].map(|name| namespaces.number(name));
        assert_eq!(numbers.map(|number| &namespaces[number]), ["a", "b", "a"]);
        assert_eq!(numbers[0], numbers[2]);
    }
}
