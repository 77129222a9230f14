//! A client that sends what it is told to, byte for byte.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::guarded::Arrived;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
    from: &'static str,
}

/// A request without a body.
pub fn get(path: &str) -> Request {
    Request {
        line: format!("GET {path} HTTP/1.1"),
        headers: Vec::new(),
        body: String::new(),
        from: "127.0.0.1",
    }
}

/// A request with a body.
pub fn post(path: &str, body: &str) -> Request {
    Request {
        line: format!("POST {path} HTTP/1.1"),
        body: body.to_owned(),
        ..get(path)
    }
}

impl Request {
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearing(self, token: &str) -> Request {
        self.with("Authorization", &format!("Bearer {token}"))
    }

    /// From this address.
    pub fn from(self, from: &'static str) -> Request {
        Request { from, ..self }
    }

    pub async fn send(&self, to: SocketAddr) -> Answer {
        let sent = self.try_send(to).await;
        sent.unwrap_or_else(|error| panic!("no answer from {to}: {error}"))
    }

    async fn try_send(&self, to: SocketAddr) -> std::io::Result<Answer> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.from.parse().expect("an address"), 0))?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(self.text().as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(Answer::read(&text))
    }

    fn text(&self) -> String {
        let mut text = format!("{}\r\nHost: guarded\r\n", self.line);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        // Whoever says something else about the connection ends it as well.
        if !self.headers.iter().any(|(name, _)| name == "Connection") {
            text += "Connection: close\r\n";
        }
        text + &format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body)
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    fn read(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.and_then(|code| code.parse().ok()).expect("a status"),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| &**value)
    }

    /// What the service got, which is its answer.
    pub fn arrived(&self) -> Arrived {
        serde_json::from_str(&self.body).expect("the service's answer")
    }

    /// The token of this name.
    pub fn token(&self, name: &str) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        body[name].as_str().expect("a token").to_owned()
    }
}
