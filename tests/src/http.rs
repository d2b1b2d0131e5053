//! The smallest HTTP client that says exactly what a test wants said, over a Unix socket or TCP.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::wait::LIVENESS;

/// Where a node's REST door is.
#[derive(Clone, Debug)]
pub enum Rest {
    /// Its Unix socket.
    Unix(PathBuf),
    /// An address, and the token that is sent.
    Tcp(SocketAddr, Option<String>),
}

/// Both ends of a connection.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The fields, their names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {} {text:?}", self.status))
    }

    /// The sentence of a problem, which must be one of this status and title.
    ///
    /// # Panics
    /// When it is not.
    pub fn problem(&self, status: u16, title: &str) -> String {
        let shown = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{shown}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{shown}");
        let problem = self.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["title"].as_str()),
            (Some(status.into()), Some(title))
        );
        assert_eq!(problem["type"], format!("tag:tempos.org,2026:Host1/{title}"));
        problem["detail"].as_str().expect("a sentence").to_owned()
    }
}

impl Rest {
    /// The Unix socket in a node's run folder.
    pub fn unix(folder: &Path) -> Rest {
        Rest::Unix(folder.join("run/rest.sock"))
    }

    /// A connection.
    ///
    /// # Panics
    /// When there is none.
    pub fn connect(&self) -> Box<dyn Stream> {
        match self {
            Rest::Unix(path) => {
                let stream = UnixStream::connect(path).expect("the REST socket takes connections");
                stream.set_read_timeout(Some(LIVENESS)).expect("a limit");
                Box::new(stream)
            }
            Rest::Tcp(address, _) => {
                let stream = TcpStream::connect(address).expect("the REST address takes connections");
                stream.set_read_timeout(Some(LIVENESS)).expect("a limit");
                Box::new(stream)
            }
        }
    }

    /// Sends a request with those fields beside the usual ones, and reads the answer to its end.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let length = body.len().to_string();
        let mut all = vec![("Connection", "close"), ("Content-Length", &*length)];
        all.extend_from_slice(fields);
        // A refusal may come before all of the body was sent.
        let _ = stream.write_all(&[&self.head(method, path, &all), body].concat());
        read(stream)
    }

    /// The head of a request.
    pub fn head(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Rest::Tcp(_, Some(token)) = self {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Reads a resource.
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Puts a wiring in place.
    pub fn put_wiring(&self, query: &str, fields: &[(&str, &str)], lua: &str) -> Answer {
        let path = format!("/v1/wiring{query}");
        self.ask("PUT", &path, &[&[("Content-Type", "text/x-lua")], fields].concat(), lua.as_bytes())
    }

    /// Opens a stream of server-sent events.
    ///
    /// # Panics
    /// When it is refused.
    pub fn events(&self, method: &str, path: &str, body: &Value) -> Events {
        let mut stream = self.connect();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len().to_string();
        let fields = [
            ("Accept", "text/event-stream"),
            ("Content-Type", "application/json"),
            ("Content-Length", &*length),
        ];
        let sent = [&self.head(method, path, &fields), body.as_bytes()].concat();
        stream.write_all(&sent).expect("the request is taken");
        let mut reader = BufReader::new(stream);
        let (status, fields) = read_head(&mut reader).expect("an answer");
        let kind = fields.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
        assert_eq!((status, kind), (200, Some("text/event-stream")));
        Events { reader, text: String::new() }
    }
}

/// A stream of server-sent events.
pub struct Events {
    reader: BufReader<Box<dyn Stream>>,
    text: String,
}

impl Events {
    /// The next event with its data; `None` at the end. Comments are left out.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn next_event(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let part = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (part("event: "), part("data: ")) {
                    return Some((name.to_owned(), serde_json::from_str(data).expect("JSON")));
                }
            }
            let mut size = String::new();
            self.reader.read_line(&mut size).expect("an event in time");
            let len = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            if len == 0 {
                return None;
            }
            let mut chunk = vec![0; len + 2];
            self.reader.read_exact(&mut chunk).expect("a whole chunk");
            self.text.push_str(std::str::from_utf8(&chunk[..len]).expect("UTF-8"));
        }
    }

    /// The data of the next event of that name that is as wanted.
    ///
    /// # Panics
    /// When the stream ends before.
    pub fn wait_for(&mut self, name: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let (known, data) = self.next_event().unwrap_or_else(|| panic!("the stream ended before {name}"));
            if known == name && wanted(&data) {
                return data;
            }
        }
    }
}

type Head = (u16, Vec<(String, String)>);

fn read_head(reader: &mut impl std::io::BufRead) -> Option<Head> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => fields.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => return Some((status, fields)),
        }
    }
}

/// Reads an answer to the end of its connection.
///
/// # Panics
/// When there is none.
pub fn read(stream: impl Read) -> Answer {
    try_read(stream).expect("an answer")
}

/// As [`read`]; `None` where the connection ends without one.
pub fn try_read(stream: impl Read) -> Option<Answer> {
    let mut reader = BufReader::new(stream);
    let (status, fields) = read_head(&mut reader)?;
    let mut body = Vec::new();
    let length = fields.iter().find(|(name, _)| name == "content-length").and_then(|(_, n)| n.parse().ok());
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
        }
        None => drop(reader.read_to_end(&mut body)),
    }
    Some(Answer { status, fields, body })
}
