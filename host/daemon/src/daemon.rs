//! From the node file to a running node, and from a signal to its end.

use std::sync::Arc;
use std::time::Duration;

use tempos_abi::host::LogLevel;
use tempos_control::{Kind, Mistake, Node, Order, Reply, Who};
use tempos_dbus::{Door, DoorConfig};
use tempos_engine::{Engine, EngineConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};

use crate::clock_watch::ClockWatch;
use crate::config::NodeFile;
use crate::exit::{CANTCREAT, CONFIG, Ending, OK, OSERR};
use crate::heap;
use crate::host_node::HostNode;
use crate::interfaces::Interfaces;
use crate::lock::{RunLock, make_folder};
use crate::log::Log;
use crate::notify;
use crate::signals::{Asked, Signals};
use crate::wiring_watch::{Scripts, WiringWatch};

/// The log's name for this room.
const TARGET: &str = "temposd";
/// Threads of the doors. Orders wait on others, of which there are at most as many as the doors for D-Bus
/// and REST admit calls, with some for the daemon's own.
const WORKERS: usize = 2;
const BLOCKING_MAX: usize = 80;
const STACK_BYTES: usize = 1 << 20;
/// How long the engine may take to end after it is drained. A plugin that does not return from its
/// closing is left behind then: the process is about to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// What a drain may take beyond its limit before the daemon goes on without its report.
const DRAIN_SLACK: Duration = Duration::from_secs(2);
/// Where the peer socket lies in the run folder.
const PEER_SOCKET: &str = "control.sock";
/// And the socket of the REST door.
const REST_SOCKET: &str = "rest.sock";

/// What the engine is told of the node file.
pub fn engine_config(file: &NodeFile, log: &Log) -> EngineConfig {
    let probe = || Some(vec![std::env::current_exe().ok()?.into_os_string(), "--probe".into()]);
    EngineConfig {
        node_id: file.node_id.clone(),
        run_dir: file.run_dir.clone(),
        state_dir: file.state_dir.clone(),
        plugin_folders: file.plugin_folders.clone(),
        levels: file.levels.clone(),
        strict_realtime: file.strict_realtime,
        lock_memory: file.lock_memory,
        probe_command: if file.probe_plugins { probe() } else { None },
        log: log.function(),
    }
}

/// Runs the node until a signal ends it. The answer is the exit code.
///
/// # Errors
/// Why it could not start.
pub fn run(file: &NodeFile, log: &Log) -> Result<i32, Ending> {
    let lock = RunLock::take(&file.run_dir)?;
    make_folder(&file.state_dir, 0o755)?;
    let runtime = runtime()?;
    let code = runtime.block_on(async {
        // Listened for first: a signal during the start ends the node in good order after it.
        let mut signals =
            Signals::listen().map_err(|e| Ending::new(OSERR, format!("signals cannot be heard: {e}")))?;
        let running = Running::start(file, log).await?;
        running.serve(file, &mut signals).await;
        Ok(running.end(file, &mut signals).await)
    });
    // Calls that never return must not hold up the end.
    runtime.shutdown_background();
    drop(lock);
    code
}

fn runtime() -> Result<Runtime, Ending> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_stack_size(STACK_BYTES)
        .thread_name("tempos-door")
        .enable_all()
        .build()
        .map_err(|error| Ending::new(OSERR, format!("no threads for the doors could be had: {error}")))
}

/// A node that has started.
struct Running {
    node: Arc<HostNode>,
    door: Door,
    rest: Option<tempos_rest::Door>,
    watch: Option<WiringWatch>,
    clock: Option<ClockWatch>,
    interfaces: Interfaces,
    log: Log,
}

impl Running {
    async fn start(file: &NodeFile, log: &Log) -> Result<Running, Ending> {
        let version = env!("CARGO_PKG_VERSION");
        log.say(LogLevel::INFO, TARGET, &format!("version {version} starts as node {:?}", file.node_id));
        // Before anything is set or started for it.
        tempos_rest::Door::check(&file.rest.tcp).map_err(|mistakes| refused(&mistakes))?;
        let interfaces = Interfaces::set(&file.interfaces, &file.run_dir, log)?;
        let engine = Engine::start(engine_config(file, log))?;
        interfaces.say(&engine);
        let node = HostNode::new(engine, file, log.clone());
        let scripts = Scripts::look(&file.wiring);
        // The door opens while the wiring is read: the bus may be slow to answer.
        let reading = spawn_blocking({
            let node = node.clone();
            move || node.begin()
        });
        let config = DoorConfig {
            bus: file.bus.clone(),
            peer_socket: Some(file.run_dir.join(PEER_SOCKET)),
            allow_group: Some(file.bus_group.clone()),
            polkit: file.polkit,
            ..DoorConfig::default()
        };
        let opened = Door::open(config, node.clone() as Arc<dyn Node>).await;
        // A wiring with mistakes has been logged and stands among the node's degradations: the node starts
        // with what it has, so that it can be asked and mended.
        if let Ok(Ok(Reply::Report(report))) = reading.await {
            log.say(LogLevel::INFO, "wiring", &report);
        }
        let door = match opened {
            Ok(door) => door,
            Err(error) => {
                node.engine().stop();
                return Err(Ending::new(CANTCREAT, error.to_string()));
            }
        };
        for sentence in door.degraded() {
            log.say(LogLevel::WARNING, "door", &sentence);
        }
        let rest = match open_rest(file, &node, log).await {
            Ok(rest) => rest,
            Err(ending) => {
                node.engine().stop();
                return Err(ending);
            }
        };
        let watch = if file.watch_wiring { watch(file, &node, scripts, log) } else { None };
        let clock =
            ClockWatch::start(&file.clock, &file.run_dir, &node, log.clone()).unwrap_or_else(|sentence| {
                log.say(LogLevel::WARNING, TARGET, &sentence);
                node.engine().degrade("clock", Some(sentence));
                None
            });
        notify::ready(&status(&node));
        log.say(LogLevel::INFO, TARGET, &status(&node));
        heap::trim();
        Ok(Running { node, door, rest, watch, clock, interfaces, log: log.clone() })
    }

    /// Answers signals and the supervisor until the end is asked for.
    async fn serve(&self, file: &NodeFile, signals: &mut Signals) {
        // Where nobody watches the tick never comes: a far one stands for it.
        let pace = notify::watchdog_pace();
        let mut tick = interval(pace.unwrap_or(Duration::from_secs(3600)));
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Reload => tokio::select! {
                        () = self.reload() => {}
                        () = signals.end() => break,
                    },
                    Asked::End => break,
                },
                _ = tick.tick(), if pace.is_some() => {
                    // Only an engine that answers keeps the supervisor from starting the node anew.
                    let node = self.node.clone();
                    let answer = spawn_blocking(move || node.observe(Kind::Node, "").is_some());
                    if let Ok(Ok(true)) = timeout(pace.unwrap_or(STOP_LIMIT), answer).await {
                        notify::alive();
                    }
                }
            }
        }
        let limit = units(file.drain_timeout);
        self.log.say(LogLevel::INFO, TARGET, &format!("ends: ingress stops, what is queued has {limit}"));
        notify::stopping(file.drain_timeout + DRAIN_SLACK + STOP_LIMIT);
    }

    async fn reload(&self) {
        notify::reloading();
        let node = self.node.clone();
        // Mistakes have been logged and announced by the node.
        if let Ok(Ok(Reply::Report(report))) =
            spawn_blocking(move || node.reload(&Who::at("signal"), "reload")).await
        {
            self.log.say(LogLevel::INFO, "wiring", &report);
        }
        heap::trim();
        notify::ready(&status(&self.node));
    }

    /// Drains within the limit, or less where a second signal says so, and closes everything.
    async fn end(self, file: &NodeFile, signals: &mut Signals) -> i32 {
        drop(self.watch);
        drop(self.clock);
        let timeout_ms = u32::try_from(file.drain_timeout.as_millis()).unwrap_or(u32::MAX);
        let node = self.node.clone();
        let drain = spawn_blocking(move || node.carry_out(Order::Drain { timeout_ms }));
        tokio::select! {
            drained = timeout(file.drain_timeout + DRAIN_SLACK, drain) => match drained {
                Ok(Ok(Ok(Reply::Report(report)))) => self.log.say(LogLevel::INFO, TARGET, &report),
                Ok(Ok(Ok(_))) => {}
                Ok(Ok(Err(refusal))) => self.log.say(LogLevel::WARNING, TARGET, &refusal.message),
                Ok(Err(_)) | Err(_) => {
                    self.log.say(LogLevel::WARNING, TARGET, "the node could not be drained in time");
                }
            },
            () = signals.end() => {
                self.log.say(LogLevel::WARNING, TARGET, "ends at once: a second signal");
                return OK;
            }
        }
        let doors = async {
            self.door.close().await;
            if let Some(rest) = self.rest {
                rest.close().await;
            }
        };
        if timeout(STOP_LIMIT, doors).await.is_err() {
            self.log.say(LogLevel::WARNING, TARGET, "the doors do not close; they are left open");
        }
        let node = self.node;
        if timeout(STOP_LIMIT, spawn_blocking(move || node.engine().stop())).await.is_err() {
            self.log.say(LogLevel::WARNING, TARGET, "a plugin does not close; it is left behind");
        }
        drop(self.interfaces);
        OK
    }
}

/// Opens the door for REST, where it is wanted.
async fn open_rest(
    file: &NodeFile,
    node: &Arc<HostNode>,
    log: &Log,
) -> Result<Option<tempos_rest::Door>, Ending> {
    if !file.rest.socket && file.rest.tcp.listen.is_none() {
        return Ok(None);
    }
    let to_degrade = (node.clone(), log.clone());
    let config = tempos_rest::DoorConfig {
        socket: file.rest.socket.then(|| file.run_dir.join(REST_SOCKET)),
        socket_mode: 0o660,
        tcp: file.rest.tcp.clone(),
        allow_group: Some(file.bus_group.clone()),
        amiss: Arc::new(move |sentence| {
            let (node, log) = &to_degrade;
            if let Some(sentence) = &sentence {
                log.say(LogLevel::WARNING, "rest", sentence);
            }
            node.engine().degrade("rest", sentence);
        }),
    };
    match tempos_rest::Door::open(config, node.clone() as Arc<dyn Node>).await {
        Ok(door) => Ok(Some(door)),
        Err(mistakes) => Err(refused(&mistakes)),
    }
}

/// The end of a daemon whose files hold these mistakes.
fn refused(mistakes: &[Mistake]) -> Ending {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    Ending::new(CONFIG, lines.join("\n"))
}

/// Starts to watch the wiring; a node without a watch still reloads by order.
fn watch(file: &NodeFile, node: &Arc<HostNode>, scripts: Scripts, log: &Log) -> Option<WiringWatch> {
    let watched = node.clone();
    let said = log.clone();
    let changed = move || {
        if let Ok(Reply::Report(report)) = watched.reload(&Who::at("files"), "reload") {
            said.say(LogLevel::INFO, "wiring", &report);
        }
        heap::trim();
    };
    match WiringWatch::start(file.wiring.clone(), scripts, file.settle, changed) {
        Ok(watch) => Some(watch),
        Err(error) => {
            let sentence = format!(
                "saved scripts are not noticed, use `temposctl reload`: the system gives no watch: {error}"
            );
            log.say(LogLevel::WARNING, "wiring", &sentence);
            node.engine().degrade("watch", Some(sentence));
            None
        }
    }
}

/// One line for `systemctl status`.
fn status(node: &HostNode) -> String {
    let count = |kind, one: &str, more: &str| match node.names(kind).len() {
        1 => format!("1 {one}"),
        n => format!("{n} {more}"),
    };
    format!(
        "ready: {}, {}, {}",
        count(Kind::Plugin, "plugin", "plugins"),
        count(Kind::Topic, "topic", "topics"),
        count(Kind::Workflow, "workflow", "workflows")
    )
}

fn units(duration: Duration) -> String {
    tempos_control::units::show_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
