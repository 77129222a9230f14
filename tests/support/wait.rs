//! Waiting for something to appear.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Looks until there is something to be seen, at most 20 seconds, and gives it.
pub async fn found<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    found_within(20, what, look).await
}

/// The same, with this patience, in seconds.
pub async fn found_within<T>(patience: u64, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = found_or_not(patience, look).await;
    found.unwrap_or_else(|| panic!("not within {patience} s: {what}"))
}

/// The same, for who has more to say if there is nothing.
pub async fn found_or_not<T>(patience: u64, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(Duration::from_secs(patience), looking).await.ok()
}
