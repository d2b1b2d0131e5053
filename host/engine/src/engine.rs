//! The engine as the daemon holds it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tempos_control::{Kind, LevelSpec, Notice, ObjectState, Order, Refusal, RefusalKind, Reply, Scheduler};

use crate::controller::{Ask, Call, Controller};
use crate::grants::costs::Costs;
use crate::herald::Herald;
use crate::lane::supervisor::Supervisor;
use crate::model::Model;
use crate::plugin::{LogFn, PluginConfig, Watcher};
use crate::system::scheduling::{self, PRIORITY_MAX, ThreadId};

/// Orders that wait for the controller.
const ORDERS: usize = 64;
/// The longest that a caller waits for an answer beside what its order may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How a node is made.
#[derive(Clone)]
pub struct EngineConfig {
    /// The node's name.
    pub node_id: String,
    /// Where private copies of plugins are kept; emptied at each start.
    pub run_dir: PathBuf,
    /// Where state outlives the process.
    pub state_dir: PathBuf,
    /// The drop-in folders of plugins.
    pub plugin_folders: Vec<PathBuf>,
    /// Levels beside, or in place of, the two presets.
    pub levels: Vec<LevelSpec>,
    /// Refuse to start where real-time scheduling or locked memory is not granted.
    pub strict_realtime: bool,
    /// Lock what the lanes use.
    pub lock_memory: bool,
    /// The command that tries a plugin in a child: `temposd --probe`.
    pub probe_command: Option<Vec<OsString>>,
    /// The node's log.
    pub log: LogFn,
}

impl EngineConfig {
    /// What the plugins' room is told.
    pub(crate) fn plugin_config(&self) -> PluginConfig {
        PluginConfig {
            folders: self.plugin_folders.clone(),
            stage_folder: self.stage_folder(),
            probe_command: self.probe_command.clone(),
            probe_timeout: Duration::from_secs(2),
            trusted_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// Where private copies of plugins are kept: under the run folder, or, where that is mounted noexec as
    /// systemd does it, under the state folder.
    fn stage_folder(&self) -> PathBuf {
        match crate::plugin::stage::runs_code(&self.run_dir) {
            Ok(false) => self.state_dir.join("staged"),
            _ => self.run_dir.join("plugins"),
        }
    }
}

/// A running node without doors.
pub struct Engine {
    calls: SyncSender<Call>,
    model: Arc<Model>,
    herald: Arc<Herald>,
    supervisor: Arc<Supervisor>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    watcher: Mutex<Option<Watcher>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts a node: loads the plugins of its folders and starts its lanes, with an empty wiring.
    ///
    /// # Errors
    /// The system refuses something without which nothing runs, or what was insisted on is not granted.
    pub fn start(config: EngineConfig) -> Result<Engine, Refusal> {
        let model = Arc::new(Model::new(&config.node_id));
        let herald = Arc::new(Herald::default());
        let supervisor = Arc::new(Supervisor::default());
        let system =
            |what: &str, error: std::io::Error| Refusal::new(RefusalKind::System, format!("{what}: {error}"));
        let mut threads = Vec::new();
        threads.push(
            start_supervisor(&config, &supervisor)
                .map_err(|e| system("the supervisor cannot be started", e))?,
        );
        let (calls, inbox) = sync_channel(ORDERS);
        let folders = config.plugin_folders.clone();
        let (changes, changed) = std::sync::mpsc::channel();
        let watcher = Watcher::start(folders, changes)
            .map_err(|e| system("the plugin folders cannot be watched", e))?;
        let to_controller = calls.clone();
        crate::plugin::host_api::wake_with({
            let calls = calls.clone();
            // A full channel wakes it anyhow.
            Box::new(move || drop(calls.try_send(Call::Heard)))
        });
        let forward = std::thread::Builder::new()
            .name("plugin-folders".into())
            .spawn(move || {
                while let Ok(change) = changed.recv() {
                    if to_controller.send(Call::Folders(change)).is_err() {
                        break;
                    }
                }
            })
            .map_err(|e| system("a thread cannot be started", e))?;
        let controller =
            match Controller::new(config, Arc::clone(&model), Arc::clone(&herald), Arc::clone(&supervisor)) {
                Ok(controller) => controller,
                Err(refusal) => {
                    supervisor.stop();
                    return Err(refusal);
                }
            };
        let thread = std::thread::Builder::new()
            .name("controller".into())
            .spawn(move || controller.run(&inbox))
            .map_err(|e| system("the controller cannot be started", e))?;
        threads.push(thread);
        drop(forward);
        Ok(Engine {
            calls,
            model,
            herald,
            supervisor,
            threads: Mutex::new(threads),
            watcher: Mutex::new(Some(watcher)),
        })
    }

    /// Carries out an order. `ApplyPath`, `ApplyText` and `Reload` are the daemon's: the engine reads no
    /// script.
    ///
    /// # Errors
    /// The refusal; nothing changed.
    pub fn carry_out(&self, order: Order) -> Result<Reply, Refusal> {
        let limit = match &order {
            Order::Drain { timeout_ms } => ANSWER_LIMIT + Duration::from_millis(u64::from(*timeout_ms)),
            _ => ANSWER_LIMIT,
        };
        let (answer, reply) = sync_channel(1);
        self.calls.try_send(Call::Order(Ask { order, answer })).map_err(|_| {
            Refusal::new(
                RefusalKind::Overloaded,
                format!("{ORDERS} orders are waiting already; try again later"),
            )
        })?;
        reply.recv_timeout(limit).unwrap_or_else(|_| {
            Err(Refusal::new(RefusalKind::Overloaded, "the controller did not answer in time"))
        })
    }

    /// What hops cost, as grants are to count it from now on. Nothing that runs is changed; what each request gets
    /// is reckoned anew.
    pub fn set_costs(&self, costs: Costs) {
        // The engine stops where nobody takes it.
        let _ = self.calls.send(Call::Costs(costs));
    }

    /// One object, read now.
    pub fn observe(&self, kind: Kind, name: &str) -> Option<ObjectState> {
        self.model.observe(kind, name)
    }

    /// The names of all objects of a kind, sorted.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.model.names(kind)
    }

    /// What happens from now on.
    pub fn notices(&self) -> Receiver<Notice> {
        self.herald.listen()
    }

    /// The generation of the wiring in force: a wiring that differs from the one before has the next number.
    pub fn generation(&self) -> u64 {
        self.model.read(|picture| picture.generation)
    }

    /// Gives the wiring in force the next number although nothing of it changed that the engine knows: its hooks did.
    pub fn count_generation(&self) -> u64 {
        self.model.count_generation()
    }

    /// The next wiring that differs from the one in force gets that number.
    pub fn set_next_generation(&self, number: u64) {
        self.model.set_next_generation(number);
    }

    /// The adapters that channels can be opened with.
    pub fn adapters(&self) -> Vec<String> {
        self.model.names(Kind::Adapter)
    }

    /// Adds a sentence to what the node does without, or takes it away.
    pub fn degrade(&self, source: &str, sentence: Option<String>) {
        if self.model.degrade(source, sentence) {
            self.herald.tell(Notice::StateChanged { kind: Kind::Node, name: String::new() });
        }
    }

    /// Tells of a wiring that was refused before the engine saw it.
    pub fn reject(&self, report: &str) {
        self.herald.tell(Notice::WiringRejected { report: report.to_owned() });
    }

    /// Tells of the machine's clock.
    pub fn tell_clock(&self, clock: &str, granted: bool, reason: &str) {
        let (clock, reason) = (clock.to_owned(), reason.to_owned());
        self.herald.tell(Notice::ClockChanged { clock, granted, reason });
    }

    /// Ends the node's threads. What is still queued is let go: drain first.
    pub fn stop(&self) {
        drop(self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.calls.send(Call::Stop);
        self.supervisor.stop();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// The supervisor runs above every lane, so that no lane can keep it from looking.
fn start_supervisor(config: &EngineConfig, supervisor: &Arc<Supervisor>) -> std::io::Result<JoinHandle<()>> {
    let highest = config
        .levels
        .iter()
        .map(|level| scheduling::priority_of(&level.scheduler))
        .chain([scheduling::priority_of(&LevelSpec::strict().scheduler)])
        .max()
        .unwrap_or(0);
    let priority = highest.saturating_add(10).min(PRIORITY_MAX);
    let supervisor = Arc::clone(supervisor);
    std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        // Where it is not granted no lane has it either.
        let _ = scheduling::apply(ThreadId::current(), &Scheduler::Fifo { priority });
        supervisor.run();
    })
}
