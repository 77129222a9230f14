//! A server on the loopback interface that notes what it receives, and misbehaves as a test asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use keyward::controller;
use kube::{Client, Config};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a server does once it has read a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It answers with this code and this body.
    Answer(u16, String),
    /// It answers, says that more will come, and closes the connection.
    Truncated(u16, String),
    /// It sends the client elsewhere: to a path of its own.
    Redirect(&'static str),
    /// It resets the connection.
    Reset,
}

/// A request, as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The verb of HTTP.
    pub method: String,
    /// The path and the query.
    pub target: String,
    /// The headers, by their names in lower case.
    pub headers: HashMap<String, String>,
    /// The body, if it is JSON.
    pub body: Value,
}

/// Runs as long as the test.
pub struct Server {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Gives these replies, one after the other, and the last one from then on.
    pub async fn start(replies: &[Reply]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let desk = Arc::new(Desk {
            replies: replies.to_vec(),
            received: Arc::clone(&received),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&desk)));
            }
        });
        Server {
            url: format!("http://{address}"),
            received,
        }
    }

    /// A client as the controller has it.
    pub fn client(&self) -> Client {
        controller::client(self.config()).expect("a client")
    }

    /// A client as kube has it by default.
    pub fn default_client(&self) -> Client {
        Client::try_from(self.config()).expect("a client")
    }

    fn config(&self) -> Config {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Config::new(self.url.parse().expect("an address"))
    }

    /// What it has received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }
}

struct Desk {
    replies: Vec<Reply>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Desk {
    fn note(&self, request: Received) -> Reply {
        let mut received = self.received.lock().expect("no panic");
        let last = self.replies.len() - 1;
        let reply = self.replies[received.len().min(last)].clone();
        received.push(request);
        reply
    }
}

/// Requests come on one connection until that is closed.
async fn serve(stream: TcpStream, desk: Arc<Desk>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let reply = desk.note(request);
        let head = |code: u16, length: usize| {
            format!(
                "HTTP/1.1 {code} Said\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
            )
        };
        let (text, stays) = match &reply {
            // Retry-After is for those that would try again.
            Reply::Answer(code, body) => {
                let head = head(*code, body.len());
                (format!("{head}retry-after: 0\r\n\r\n{body}"), true)
            }
            Reply::Truncated(code, body) => {
                let head = head(*code, body.len() + 1);
                (format!("{head}\r\n{body}"), false)
            }
            Reply::Redirect(target) => {
                let head = head(307, 0);
                (format!("{head}location: {target}\r\n\r\n"), true)
            }
            Reply::Reset => {
                stream.get_ref().set_zero_linger().expect("a socket");
                return;
            }
        };
        let written = stream.get_mut().write_all(text.as_bytes()).await;
        if written.is_err() || !stays {
            return;
        }
    }
}

/// None once the client has closed the connection.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Received> {
    let first = line(stream).await?;
    let (method, rest) = first.split_once(' ').expect("a request line");
    let target = rest.strip_suffix(" HTTP/1.1").expect("a request line");
    let mut headers = HashMap::new();
    loop {
        let line = line(stream).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").expect("a header");
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length");
    let length = length.map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}
