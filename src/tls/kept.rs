//! What is made of files, and made anew when they change.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tracing::{info, warn};

use super::TlsError;

/// So often the files are read.
const LOOK: Duration = Duration::from_secs(10);

/// Some files of which something is made.
pub trait Files {
    /// What they hold.
    type Contents: PartialEq;
    /// What is made of that.
    type Made: Clone;

    /// Reads them.
    ///
    /// # Errors
    /// When one cannot be read.
    fn read(&self) -> Result<Self::Contents, TlsError>;

    /// Makes it of what they hold.
    ///
    /// # Errors
    /// When they hold something else, or do not fit each other.
    fn make(&self, contents: &Self::Contents) -> Result<Self::Made, TlsError>;
}

/// What was made last.
pub struct Kept<F: Files> {
    files: F,
    current: RwLock<Current<F>>,
}

struct Current<F: Files> {
    contents: F::Contents,
    made: F::Made,
}

impl<F: Files> Kept<F> {
    /// Reads the files.
    ///
    /// # Errors
    /// When nothing can be made of them.
    pub fn of(files: F) -> Result<Kept<F>, TlsError> {
        let contents = files.read()?;
        let made = files.make(&contents)?;
        Ok(Kept {
            files,
            current: RwLock::new(Current { contents, made }),
        })
    }

    /// What was made of them.
    pub fn made(&self) -> F::Made {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.made.clone()
    }

    /// Reads the files from time to time. Never ends.
    pub async fn keep_up(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.look() {
                Ok(false) => {}
                Ok(true) => info!("the certificate has changed, and is used from now on"),
                Err(error) => warn!("the certificate stays as it is: {error}"),
            }
        }
    }

    /// Have they changed? While only one of certificate and key is new, they do not fit.
    fn look(&self) -> Result<bool, TlsError> {
        let contents = self.files.read()?;
        let is_known = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            current.contents == contents
        };
        if is_known {
            return Ok(false);
        }
        let made = self.files.make(&contents)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current { contents, made };
        Ok(true)
    }
}
