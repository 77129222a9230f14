//! Hashing beside the event loop: as many hashes at once as there are cores, none of them on its
//! threads.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use crate::key::{EntropyError, Secret};
use crate::metrics::Metrics;
use crate::verifier::{HashProfile, Verifier};

/// Hashes secrets.
#[derive(Clone)]
pub struct Hasher {
    permits: Arc<Semaphore>,
    profile: HashProfile,
    generate: fn() -> Result<Secret, EntropyError>,
    metrics: Metrics,
}

impl Hasher {
    /// Verifiers are made with `profile`; checking one costs what it was made with.
    pub fn new(profile: HashProfile, metrics: Metrics) -> Hasher {
        let cores = available_parallelism().map_or(1, usize::from);
        Hasher {
            permits: Arc::new(Semaphore::new(cores)),
            profile,
            generate: Secret::generate,
            metrics,
        }
    }

    /// With another source of secrets than [`Secret::generate`]: one that fails shows what happens then.
    #[must_use]
    pub fn with_source(self, generate: fn() -> Result<Secret, EntropyError>) -> Hasher {
        Hasher { generate, ..self }
    }

    /// Makes a secret and its verifier.
    ///
    /// # Errors
    /// When the operating system's generator fails, or memory is short.
    pub async fn generate(&self) -> Result<(Secret, Verifier), Failure> {
        let (profile, generate) = (self.profile, self.generate);
        self.hash(move || {
            let secret = generate()?;
            let verifier = Verifier::of(&secret, profile)?;
            Ok((secret, verifier))
        })
        .await?
    }

    /// Gives the secret back, with the position of the first verifier that it verifies against.
    ///
    /// # Errors
    /// Only when the process is ending.
    pub async fn find(
        &self,
        secret: Secret,
        verifiers: Vec<Verifier>,
    ) -> Result<(Secret, Option<usize>), Failure> {
        self.hash(move || {
            let found = verifiers
                .iter()
                .position(|verifier| verifier.verifies(&secret));
            (secret, found)
        })
        .await
    }

    async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Failure::Stopping)?;
        let metrics = self.metrics.clone();
        let hashed = spawn_blocking(move || {
            let begin = Instant::now();
            let done = work();
            metrics.hashes.inc();
            metrics.hash_seconds.observe(begin.elapsed().as_secs_f64());
            // Held until the hash is done, also when nobody waits for it any more.
            drop(permit);
            done
        });
        hashed.await.map_err(|_| Failure::Stopping)
    }
}
