//! The memory that hashes work in, kept from one hash to the next.
//!
//! Given back after each hash, a MiB at a time between small objects that stay, it leaves holes that the allocator of
//! glibc does not fill: a controller that issued 1,000 keys had 63 MiB of them.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use argon2::{Block, Error};

/// Of no more than this many KiB each: the dearest profile's. What a costlier verifier takes is given back.
const MOST_BLOCKS: usize = 19456;

/// Asked once: the answer takes as long as a tenth of a hash, since it is looked up in files.
static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));

static SPARE: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

/// Lends as many blocks of a KiB as the work needs. They hold anything.
///
/// # Errors
/// When there is no memory.
pub fn lend<T>(
    count: usize,
    work: impl FnOnce(&mut [Block]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut blocks = spare().pop().unwrap_or_default();
    if blocks.len() < count {
        blocks = new(count)?;
    }
    let done = work(&mut blocks);
    keep(blocks);
    done
}

fn new(count: usize) -> Result<Vec<Block>, Error> {
    let mut blocks = Vec::new();
    blocks
        .try_reserve_exact(count)
        .map_err(|_| Error::OutOfMemory)?;
    blocks.resize_with(count, Block::default);
    Ok(blocks)
}

/// Callers hash as many secrets at once as there are cores.
fn keep(blocks: Vec<Block>) {
    let mut spare = spare();
    if blocks.len() <= MOST_BLOCKS && spare.len() < *CORES {
        spare.push(blocks);
    }
}

fn spare() -> MutexGuard<'static, Vec<Vec<Block>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let cores = available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..3 * cores)
            .map(|_| {
                std::thread::spawn(|| {
                    for count in [8, MOST_BLOCKS + 1, 1024] {
                        let lent = lend(count, |blocks| Ok(blocks.len()));
                        assert!(lent.unwrap() >= count);
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        let spare = spare();
        assert!(spare.len() <= cores);
        assert!(spare.iter().all(|blocks| blocks.len() <= MOST_BLOCKS));
    }
}
