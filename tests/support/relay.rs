//! A way between whoever asks and whoever answers on which answers become others, come late, or never.

use std::net::SocketAddr;

use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::{select, spawn};

/// What becomes of what is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answers {
    /// Whoever is there answers.
    From(SocketAddr),
    /// The same, and what is held stays on its way until the answers are from there again.
    Held(SocketAddr),
    /// This is the answer, whatever was asked.
    Always(&'static str),
}

impl Answers {
    fn source(&self) -> Option<SocketAddr> {
        match self {
            Answers::From(source) | Answers::Held(source) => Some(*source),
            Answers::Always(_) => None,
        }
    }

    fn are_held(&self) -> bool {
        matches!(self, Answers::Held(_))
    }
}

/// What is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// What whoever connects says.
    Connecting,
    /// What it is told.
    Listening,
}

/// Until this goes out of scope.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    answers: watch::Sender<Answers>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens there. Of what goes through it, what this side says can be held.
    pub async fn at(address: SocketAddr, held: Side, answers: Answers) -> Relay {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (answers, state) = watch::channel(answers);
        let task = spawn(async move {
            while let Ok((asking, _)) = listener.accept().await {
                spawn(carry(asking, held, state.clone()));
            }
        });
        Relay {
            address,
            answers,
            task,
        }
    }

    /// From now on. Connections to another source are closed.
    pub fn answers(&self, answers: Answers) {
        self.answers.send_replace(answers);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection. Its end says all that there is to be said of an error.
async fn carry(
    mut asking: TcpStream,
    held: Side,
    mut state: watch::Receiver<Answers>,
) -> io::Result<()> {
    let answers = *state.borrow_and_update();
    let source = match answers {
        Answers::Always(answer) => {
            if asking.read(&mut [0; 1 << 16]).await? == 0 {
                return Ok(());
            }
            asking.write_all(answer.as_bytes()).await?;
            return asking.shutdown().await;
        }
        Answers::From(source) | Answers::Held(source) => source,
    };
    let mut answering = TcpStream::connect(source).await?;
    asking.set_nodelay(true)?;
    answering.set_nodelay(true)?;
    let (said, tells) = asking.split();
    let (told, says) = answering.split();
    let holds = |side| (held == side).then(|| state.clone());
    let (there, back) = (holds(Side::Connecting), holds(Side::Listening));
    let is_another = |answers: &Answers| answers.source() != Some(source);
    select! {
        ended = pass(said, says, there) => ended,
        ended = pass(told, tells, back) => ended,
        _ = state.wait_for(is_another) => Ok(()),
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut held: Option<watch::Receiver<Answers>>,
) -> io::Result<()> {
    let mut said = [0; 1 << 16];
    loop {
        let many = from.read(&mut said).await?;
        if many == 0 {
            return Ok(());
        }
        if let Some(state) = &mut held {
            let released = state.wait_for(|answers| !answers.are_held()).await;
            released.map_err(io::Error::other)?;
        }
        to.write_all(&said[..many]).await?;
    }
}
