//! Values that stay where they are, each at a place of its own.

use std::ops::Index;

/// Where a value is, in half the size of a pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place(u32);

/// Values in chunks, so that none has to move when more come. Their room is never given back, but used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    vacant: Vec<Place>,
}

/// What is read together shares as few cache lines as it can.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<T>(Option<T>);

const CHUNK: usize = 512;

const VALUE: &str = "whoever has a place has a value there";

impl Place {
    fn of(chunk: usize, slot: usize) -> Place {
        let place = u32::try_from(chunk * CHUNK + slot);
        Place(place.expect("no cluster keeps as many objects"))
    }

    fn chunk(self) -> usize {
        self.0 as usize / CHUNK
    }

    fn slot(self) -> usize {
        self.0 as usize % CHUNK
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab {
            chunks: Vec::new(),
            vacant: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// One more value.
    pub fn insert(&mut self, value: T) -> Place {
        let place = self.vacant.pop().unwrap_or_else(|| self.more_room());
        self.chunks[place.chunk()][place.slot()].0 = Some(value);
        place
    }

    /// Takes away the value at this place.
    ///
    /// # Panics
    /// When there is none.
    pub fn remove(&mut self, place: Place) -> T {
        let value = self.chunks[place.chunk()][place.slot()].0.take();
        let value = value.expect(VALUE);
        self.vacant.push(place);
        value
    }

    fn more_room(&mut self) -> Place {
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(Slot(None));
        Place::of(chunk, self.chunks[chunk].len() - 1)
    }
}

impl<T> Index<Place> for Slab<T> {
    type Output = T;

    fn index(&self, place: Place) -> &T {
        let Slot(value) = &self.chunks[place.chunk()][place.slot()];
        value.as_ref().expect(VALUE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map, in which nothing has a place.
        #[test]
        fn a_value_is_where_it_was_put_until_it_is_removed(
            changes in prop::collection::vec(prop::option::weighted(0.7, 0..9), 0..2000),
        ) {
            let (mut slab, mut expected) = (Slab::default(), BTreeMap::new());
            for (number, change) in changes.into_iter().enumerate() {
                match (change, expected.pop_first()) {
                    (None, Some((_, (place, value)))) => {
                        prop_assert_eq!(slab.remove(place), value);
                    }
                    (change, first) => {
                        expected.extend(first);
                        let value = (number, change);
                        expected.insert(number, (slab.insert(value), value));
                    }
                }
            }
            for (place, value) in expected.values() {
                prop_assert_eq!(&slab[*place], value);
            }
            let room: usize = slab.chunks.iter().map(Vec::len).sum();
            prop_assert_eq!(room, expected.len() + slab.vacant.len());
        }
    }
}
