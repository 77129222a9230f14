//! Chance, as bytes: cheap to draw a million times, and whoever makes the bytes smaller makes what is chosen simpler.

use std::slice::Iter;

/// Chooses by one byte each. After the last one it chooses what is simplest.
pub struct Chance<'a>(Iter<'a, u8>);

impl<'a> Chance<'a> {
    pub fn of(bytes: &'a [u8]) -> Chance<'a> {
        Chance(bytes.iter())
    }

    /// Any number below this one; 0 is the simplest.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// In so many of 256 cases; not is simpler.
    pub fn happens(&mut self, of_256: u8) -> bool {
        u8::MAX - self.byte() < of_256
    }

    /// The first is the simplest.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub fn maybe<T>(&mut self, of_256: u8, choose: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.happens(of_256).then(|| choose(self))
    }

    /// From `least` to `most`.
    pub fn some<T>(
        &mut self,
        least: usize,
        most: usize,
        mut choose: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let count = least + self.below(most - least + 1);
        (0..count).map(|_| choose(self)).collect()
    }

    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }
}
