//! The wish to end, told to every part of the process.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Resolves once the process is to end; so do its clones.
#[derive(Clone, Debug)]
pub struct Shutdown(Shared<BoxFuture<'static, ()>>);

impl Shutdown {
    /// Resolves at the first SIGTERM or SIGINT. A second one ends the process at once, for people
    /// who do not want to wait.
    ///
    /// # Errors
    /// When the system refuses a signal handler.
    pub fn on_signal() -> io::Result<Self> {
        let mut signals = Signals::new()?;
        let (trigger, shutdown) = Self::manual();
        tokio::spawn(async move {
            signals.next().await;
            tracing::info!("asked to end: finishing what is under way");
            trigger.pull();
            signals.next().await;
            std::process::exit(1);
        });
        Ok(shutdown)
    }

    /// Resolves when the trigger is pulled, or dropped.
    pub fn manual() -> (Trigger, Self) {
        let (sender, receiver) = oneshot::channel();
        let pulled = receiver.map(|_| ()).boxed().shared();
        (Trigger(sender), Self(pulled))
    }

    /// A future of its own, for a part that keeps it.
    pub fn wait(&self) -> Self {
        self.clone()
    }
}

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_unpin(context)
    }
}

/// Pulls a [`Shutdown`].
#[derive(Debug)]
pub struct Trigger(oneshot::Sender<()>);

impl Trigger {
    /// Tells all parts to end.
    pub fn pull(self) {
        // With nobody left to hear it, everything has ended already.
        let _ = self.0.send(());
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_of_it_early_or_late() {
        let (trigger, shutdown) = Shutdown::manual();
        let early = shutdown.wait();
        assert_eq!(early.clone().now_or_never(), None);
        trigger.pull();
        early.await;
        shutdown.wait().await;
        shutdown.await;
    }

    #[tokio::test]
    async fn a_lost_trigger_ends_the_process_rather_than_none_ever() {
        let (trigger, shutdown) = Shutdown::manual();
        drop(trigger);
        shutdown.await;
    }
}
