//! A container engine, asked over HTTP on its Unix socket (the interface of Docker, which podman has too): a few short
//! questions, one connection each, everything bounded. HTTP/1.0, whose answers end with their connection.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

/// How long a question and its answer may take together.
const WITHIN: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// An engine by its socket.
#[derive(Clone, Debug)]
pub struct Engine {
    path: PathBuf,
}

/// What is asked of an engine's word on a container; all else it says is passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Inspection {
    /// The whole id.
    pub id: String,
    /// Whether it runs, and as what.
    pub state: State,
    /// What its processes are started with.
    pub config: Settings,
    /// What it is bounded by.
    pub host_config: HostSettings,
    /// Its AppArmor profile.
    pub app_armor_profile: String,
    /// Its SELinux label.
    pub process_label: String,
}

/// See [`Inspection`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// In a word.
    pub status: String,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is frozen.
    pub paused: bool,
    /// Its first process.
    pub pid: i32,
    /// Since when.
    pub started_at: String,
}

/// See [`Inspection`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Settings {
    /// `USER` or `USER:GROUP`, by name or number; empty: root.
    pub user: String,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Where its processes run; empty: `/`.
    pub working_dir: String,
    /// Its host name.
    pub hostname: String,
}

/// See [`Inspection`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostSettings {
    /// Groups beside those of its user.
    pub group_add: Option<Vec<String>>,
}

/// A process that the engine has started, or could not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Started {
    /// Whether it runs.
    pub running: bool,
    /// Its number; 0: not yet.
    pub pid: i32,
    /// How it ended.
    pub exit_code: Option<i64>,
}

impl Engine {
    /// By the path of its socket.
    pub fn at(path: PathBuf) -> Self {
        Engine { path }
    }

    /// What it says of a container.
    ///
    /// # Errors
    /// One sentence: who does not answer, or that there is no such container.
    pub fn inspect(&self, name: &str) -> Result<Inspection, String> {
        let (code, answer) = self.ask("GET", &format!("/containers/{name}/json"), None)?;
        match code {
            200 => serde_json::from_value(answer)
                .map_err(|error| format!("{} does not say what a container is: {error}", self.shown())),
            404 => {
                Err(format!("{} knows no container {name:?}; start it, or correct the name", self.shown()))
            }
            _ => Err(self.refused(code, &answer)),
        }
    }

    /// Has a process made for a container, which does not start yet; the answer is its id.
    ///
    /// # Errors
    /// One sentence.
    pub fn create_exec(&self, container: &str, what: &Value) -> Result<String, String> {
        let (code, answer) = self.ask("POST", &format!("/containers/{container}/exec"), Some(what))?;
        match answer["Id"].as_str() {
            Some(id) if code == 201 && id.chars().all(|c| c.is_ascii_alphanumeric()) => Ok(id.to_owned()),
            _ => Err(self.refused(code, &answer)),
        }
    }

    /// Starts it. The connection is its standard input from now on, and brings its output and errors, each part
    /// behind a head; the bytes are what has come already.
    ///
    /// # Errors
    /// One sentence.
    pub fn start_exec(&self, id: &str) -> Result<(UnixStream, Vec<u8>), String> {
        let until = Instant::now() + WITHIN;
        let mut stream = self.connect()?;
        let body = r#"{"Detach":false,"Tty":false}"#;
        let request = format!(
            "POST /exec/{id}/start HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|error| self.broken(&error))?;
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(head) = head_of(&bytes) {
                break head;
            }
            if self.read(&mut stream, &mut bytes, HEAD_BYTES_MAX, until)? == 0 {
                return Err(format!("{} ended the connection of a new process", self.shown()));
            }
        };
        let code = code_of(&bytes[..head]).ok_or_else(|| self.gibberish())?;
        if code == 101 || code == 200 {
            return Ok((stream, bytes.split_off(head)));
        }
        while self.read(&mut stream, &mut bytes, HEAD_BYTES_MAX, until).is_ok_and(|count| count > 0) {}
        let answer = serde_json::from_slice(&bytes[head..]).unwrap_or_default();
        Err(self.refused(code, &answer))
    }

    /// What has become of a process that it started.
    ///
    /// # Errors
    /// One sentence.
    pub fn inspect_exec(&self, id: &str) -> Result<Started, String> {
        let (code, answer) = self.ask("GET", &format!("/exec/{id}/json"), None)?;
        match code {
            200 => serde_json::from_value(answer).map_err(|_| self.gibberish()),
            _ => Err(self.refused(code, &answer)),
        }
    }

    fn ask(&self, verb: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), String> {
        let until = Instant::now() + WITHIN;
        let mut stream = self.connect()?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{verb} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(|error| self.broken(&error))?;
        let mut bytes = Vec::new();
        while self.read(&mut stream, &mut bytes, ANSWER_BYTES_MAX, until)? > 0 {}
        let head = head_of(&bytes).ok_or_else(|| self.gibberish())?;
        let code = code_of(&bytes[..head]).ok_or_else(|| self.gibberish())?;
        Ok((code, serde_json::from_slice(&bytes[head..]).unwrap_or_default()))
    }

    fn connect(&self) -> Result<UnixStream, String> {
        let connect = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // Bounds the call below, too (socket(7)).
            socket.set_write_timeout(Some(WITHIN))?;
            socket.connect(&SockAddr::unix(&self.path)?)?;
            Ok(socket)
        };
        match connect() {
            Ok(socket) => Ok(socket.into()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!(
                "{} does not let this node in ({error}); add the node's user to the group of its socket",
                self.shown()
            )),
            Err(error) => {
                Err(format!("{} does not answer ({error}); start it, or set `engine`", self.shown()))
            }
        }
    }

    /// Reads once, at most until then and so many bytes in all.
    fn read(
        &self,
        stream: &mut UnixStream,
        bytes: &mut Vec<u8>,
        most: usize,
        until: Instant,
    ) -> Result<usize, String> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut room = [0; 4096];
        stream.set_read_timeout(Some(left)).map_err(|error| self.broken(&error))?;
        let count = loop {
            match stream.read(&mut room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && Instant::now() < until => {}
                read => break read.map_err(|error| self.broken(&error))?,
            }
        };
        if bytes.len() + count > most || Instant::now() >= until {
            return Err(format!("{} answers too much or too slowly", self.shown()));
        }
        bytes.extend_from_slice(&room[..count]);
        Ok(count)
    }

    fn shown(&self) -> String {
        format!("the container engine at {}", self.path.display())
    }

    fn broken(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("{} does not answer within {} s", self.shown(), WITHIN.as_secs())
            }
            _ => format!("{} cannot be spoken with: {error}", self.shown()),
        }
    }

    fn gibberish(&self) -> String {
        format!("{} does not speak the interface of Docker", self.shown())
    }

    fn refused(&self, code: u16, answer: &Value) -> String {
        let said = answer["message"].as_str().unwrap_or("").replace(char::is_control, " ");
        format!("{} answers with {code}: {}", self.shown(), said.trim())
    }
}

/// How long the head of an answer is, where it is whole.
fn head_of(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The code in the first line of an answer.
fn code_of(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What comes of an engine that answers so.
    fn asked(name: &str, answer: &'static [u8]) -> Result<Inspection, String> {
        let path = std::env::temp_dir().join(format!("tempos-engine-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bound");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let mut question = [0; 1024];
            let count = stream.read(&mut question).expect("a question");
            assert!(question[..count].starts_with(b"GET /containers/c/json HTTP/1.0\r\n"));
            let _ = stream.write_all(answer);
        });
        let result = Engine::at(path.clone()).inspect("c");
        thread.join().expect("no panic");
        let _ = std::fs::remove_file(path);
        result
    }

    #[test]
    fn an_answer_is_believed_only_where_it_is_one() {
        let well =
            b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"Id\":\"ab\",\"State\":{\"Running\":true,\"Pid\":7},\"X\":1}";
        let about = asked("well", well).expect("an answer");
        assert_eq!((about.id.as_str(), about.state.running, about.state.pid), ("ab", true, 7));
        for (name, answer, what) in [
            (
                "none",
                &b"HTTP/1.1 404 Not Found\r\n\r\n{\"message\":\"No such container: c\"}"[..],
                "knows no container",
            ),
            ("refused", b"HTTP/1.1 500 X\r\n\r\n{\"message\":\"dead\\nly\"}", "answers with 500: dead ly"),
            ("other", b"220 mail.example ESMTP\r\n", "does not speak"),
            ("empty", b"", "does not speak"),
            ("kind", b"HTTP/1.1 200 OK\r\n\r\n{\"Id\":5}", "does not say what a container is"),
        ] {
            let sentence = asked(name, answer).expect_err("refused");
            assert!(sentence.contains(what) && !sentence.contains('\n'), "{name}: {sentence}");
        }
        let nobody = Engine::at("/no/such/socket".into()).inspect("c").expect_err("nobody is there");
        assert!(nobody.starts_with("the container engine at /no/such/socket does not answer"), "{nobody}");
    }
}
