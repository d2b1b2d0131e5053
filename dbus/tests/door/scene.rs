//! A scene: a folder, a bus daemon where wanted, the door, and the tools that knock at it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempos_dbus::{Bus, Door, DoorConfig};
use tokio::runtime::Runtime;
use zbus::{Connection, connection};

use crate::node::FakeNode;

/// A folder that goes with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tempos-dbus-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with its owner.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a bus daemon that listens in `folder`, with the policy of a session.
pub fn start_bus(folder: &Path) -> Process {
    let address = format!("unix:path={}", folder.join("bus").display());
    run_bus(bus_daemon().args(["--session", &format!("--address={address}")]))
}

/// Starts a bus daemon that everyone may connect to, with the policy file of this crate.
pub fn start_system_bus(folder: &Path) -> Process {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("org.tempos.Host1.conf");
    let copy = folder.join("org.tempos.Host1.conf");
    std::fs::copy(policy, &copy).unwrap();
    let config = format!(
        "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context='default'><allow user='*'/><deny own='*'/><deny send_type='method_call'/>\
         <allow send_type='signal'/><allow send_requested_reply='true' send_type='method_return'/>\
         <allow send_requested_reply='true' send_type='error'/><allow receive_type='method_call'/>\
         <allow receive_type='method_return'/><allow receive_type='error'/><allow receive_type='signal'/>\
         <allow send_destination='org.freedesktop.DBus' send_interface='org.freedesktop.DBus'/></policy>\
         <policy user='root'><allow own='org.freedesktop.PolicyKit1'/>\
         <allow send_destination='org.freedesktop.PolicyKit1'/></policy>\
         <include>{}</include></busconfig>",
        folder.join("bus").display(),
        copy.display(),
    );
    std::fs::write(folder.join("bus.conf"), config).unwrap();
    run_bus(bus_daemon().arg(format!("--config-file={}", folder.join("bus.conf").display())))
}

/// It ends with the test, also where that ends without a destructor (PR_SET_PDEATHSIG, prctl(2)).
fn bus_daemon() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "dbus-daemon"]);
    command
}

fn run_bus(command: &mut Command) -> Process {
    let command = command.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"]);
    let mut process = Process(command.stdout(Stdio::piped()).spawn().expect("dbus-daemon is installed"));
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("unix:"), "the bus daemon says where it listens: {line:?}");
    process
}

/// The door to a fake node, with its bus and its socket.
pub struct Scene {
    // In the order in which they go: the door, its runtime, the bus, the folder.
    pub door: Option<Door>,
    pub runtime: Runtime,
    pub bus: Option<Process>,
    pub folder: Folder,
    pub node: Arc<FakeNode>,
}

/// Where a test knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Bus,
    Peer,
}

pub const SIDES: [Side; 2] = [Side::Bus, Side::Peer];

impl Scene {
    /// With a bus of its own.
    pub fn new() -> Self {
        Scene::with(FakeNode::new(), |folder| Some(start_bus(folder)), |_| {})
    }

    pub fn with(
        node: Arc<FakeNode>,
        bus: impl FnOnce(&Path) -> Option<Process>,
        change: impl FnOnce(&mut DoorConfig),
    ) -> Self {
        let folder = Folder::new();
        let bus = bus(&folder.0);
        let mut config = DoorConfig {
            bus: Bus::Address(format!("unix:path={}", folder.0.join("bus").display())),
            peer_socket: Some(folder.0.join("control.sock")),
            allow_group: None,
            ..DoorConfig::default()
        };
        change(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let door = runtime.block_on(Door::open(config, node.clone())).unwrap();
        Scene { door: Some(door), runtime, bus, folder, node }
    }

    pub fn address(&self, side: Side) -> String {
        let file = match side {
            Side::Bus => "bus",
            Side::Peer => "control.sock",
        };
        format!("unix:path={}", self.folder.0.join(file).display())
    }

    /// A client that says `Hello`, as on any bus.
    pub fn client(&self, side: Side) -> Connection {
        let address = self.address(side);
        let connect = async move { connection::Builder::address(address.as_str()).unwrap().build().await };
        self.runtime.block_on(connect).unwrap()
    }

    /// Runs busctl.
    pub fn busctl(&self, side: Side, arguments: &[&str]) -> Output {
        let address = format!("--address={}", self.address(side));
        run(Command::new("busctl").arg(address).args(arguments), b"")
    }

    /// Runs busctl, which must succeed; its standard output.
    pub fn busctl_says(&self, side: Side, arguments: &[&str]) -> String {
        let output = self.busctl(side, arguments);
        assert!(output.status.success(), "{side:?} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs temposctl.
    pub fn ctl(&self, side: Side, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_temposctl"));
        run(command.arg("--bus").arg(self.address(side)).args(arguments), input)
    }

    /// Runs temposctl, which must end with `code`; both of its outputs.
    pub fn ctl_says(&self, side: Side, arguments: &[&str], code: i32) -> (String, String) {
        let output = self.ctl(side, arguments, b"");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.node.release();
        if let Some(door) = self.door.take() {
            self.runtime.block_on(door.close());
        }
    }
}

pub fn run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.env_remove("TEMPOS_BUS").spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Waits until it is so; a node that is slow is no failure, one that never gets there is.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
