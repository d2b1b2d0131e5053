//! Mode `exec`: the engine starts the workers, where the node may not enter containers itself. They have what the engine
//! gives to every process of the container; the node only follows them, and must be allowed to end them.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempos_abi::host::LogLevel;
use tempos_abi::invoker::{FunctionSpec, Scheduling};
use tempos_process::clock::now_ns;
use tempos_process::instance::Instance;
use tempos_process::process::Process;
use tempos_process::scheduling;
use tempos_process::source::Workers;
use tempos_process::tail::Tail;

use crate::config::Config;
use crate::container::{is_of, pidfd};
use crate::engine::{Engine, Started};
use crate::seat::Seat;
use crate::stream;

/// The longest pause between two looks whether a process has been started.
const LOOK_MS_MAX: u64 = 64;
/// Puts a source's frames aside, as its shim expects them.
const ASIDE: &str = "exec 3<&0 4>&1 </dev/null >&2; exec \"$@\"";

/// Workers that the engine starts.
pub struct Exec {
    engine: Engine,
    seat: Arc<Seat>,
    function: String,
    request: Value,
    scheduling: Scheduling,
    start_within_ns: u64,
    /// That its level's scheduling is refused, which is said once.
    said: AtomicBool,
}

impl Exec {
    /// For a function.
    pub fn new(engine: Engine, seat: Arc<Seat>, spec: &FunctionSpec, config: &Config) -> Exec {
        let command = match config.runtime.interpreter() {
            None => config.runtime.arguments("", &spec.file, &config.args, false),
            Some((name, _)) => {
                let interpreter = config.interpreter.as_deref().unwrap_or(name);
                let shell = ["/bin/sh", "-c", ASIDE, "tempos"].map(String::from).into_iter();
                shell.chain(config.runtime.arguments(interpreter, &spec.file, &config.args, false)).collect()
            }
        };
        let mut request = json!({
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": false,
            "Cmd": command, "Env": config.env,
        });
        if let Some(user) = &config.user {
            request["User"] = Value::from(user.as_str());
        }
        if let Some(directory) = &config.directory {
            request["WorkingDir"] = Value::from(directory.as_str());
        }
        Exec {
            engine,
            seat,
            function: spec.name.to_string(),
            request,
            scheduling: spec.scheduling(),
            start_within_ns: config.start_within_ns,
            said: AtomicBool::new(false),
        }
    }

    /// Waits until the engine has started it; its number is its own as long as the pidfd says that it lives.
    fn started(&self, id: &str, container: &str) -> Result<Process, String> {
        let until = now_ns() + self.start_within_ns;
        let mut pause = 1;
        let pid = loop {
            match self.engine.inspect_exec(id)? {
                Started { running: true, pid, .. } if pid > 0 => break pid,
                Started { running: false, exit_code: Some(code), .. } => {
                    return Err(format!("the engine says that it ended with code {code}"));
                }
                _ if now_ns() >= until => return Err("the engine did not start it in time".into()),
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(pause));
            pause = (2 * pause).min(LOOK_MS_MAX);
        };
        let gone = || String::from("it ended as soon as it was started");
        let handle = pidfd(pid).map_err(|_| gone())?;
        match self.engine.inspect_exec(id)? {
            Started { running: true, pid: again, .. } if again == pid => {}
            _ => return Err(gone()),
        }
        if !is_of(pid, container) {
            return Err("its engine is not on this machine, or numbers processes in another way".into());
        }
        // SAFETY: no pointers; signal 0 only asks whether one may.
        if unsafe { libc::kill(pid, 0) } != 0 {
            let error = io::Error::last_os_error();
            return Err(format!(
                "this node may not end it ({error}), so that it could not be stopped at a deadline: run the node as \
                 the container's user, or set `user`"
            ));
        }
        Ok(Process::foreign(pid, handle))
    }
}

impl Workers for Exec {
    fn start(&self) -> io::Result<Instance> {
        let place = self.seat.place()?;
        let id =
            self.engine.create_exec(&place.container.about.id, &self.request).map_err(io::Error::other)?;
        let (connection, first) = self.engine.start_exec(&id).map_err(io::Error::other)?;
        let ends = stream::apart(connection, first, &self.function)?;
        let process = self.started(&id, &place.container.about.id).map_err(|what| {
            let mut tail = Tail::new();
            tail.drain(ends.errors.as_raw_fd());
            let line = tail.last_line();
            io::Error::other(if line.is_empty() { what } else { format!("{what}: {line}") })
        })?;
        // As far as the system and the container's control groups grant it.
        if let Err(what) = scheduling::apply_to(process.pid(), &self.scheduling)
            && !self.said.swap(true, Ordering::Relaxed)
        {
            let function = &self.function;
            let sentence =
                format!("function of workflow \"{function}\": its processes go without the level's {what}");
            tempos_abi::export::log(LogLevel::WARNING, "container", &sentence);
        }
        Ok(Instance::new(process, ends.requests, ends.answers, ends.errors))
    }
}
