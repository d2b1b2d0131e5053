//! The stage: one node with a topic for each way through it, and the bare forwarders beside it.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempos_tests::built::source_root;
use tempos_tests::{Node, NodeSetup};

use crate::bare::{Forwarder, Manner};
use crate::machine::Layout;
use crate::traffic::Sink;

/// A way for events: where to send them, where they come out, whose time they cost.
pub struct Way {
    /// Its name in the tables.
    pub name: &'static str,
    /// Where events go in.
    pub target: SocketAddr,
    /// Whether they come out of the unix socket.
    pub to_unix: bool,
    /// The process that forwards.
    pub pid: u32,
    /// The way that it is compared with.
    pub beside: Option<&'static str>,
}

/// Everything that runs.
pub struct Scene {
    /// The ways at a steady pace, the bare one first.
    pub ways: Vec<Way>,
    /// The ways of floods, the bare one first.
    pub floods: Vec<Way>,
    /// Where events come out.
    pub udp: Sink,
    /// Where events come out of the ways to a unix socket.
    pub unix: Sink,
    /// The socket of floods.
    pub flood_sink: UdpSocket,
    _forwarders: Vec<Forwarder>,
    _node: Node,
}

/// What the ways need.
const PLUGINS: [&str; 4] = ["adapter-udp", "adapter-unix", "queue-fifo", "invoker-dlf"];

/// The names of the ways.
pub const PLAIN: &str = "bare recvfrom+sendto";
const BATCHES: &str = "bare recvmmsg+sendmmsg 32";
const TO_UNIX: &str = "bare recvfrom+sendto unix";

impl Scene {
    /// Starts the node and the forwarders.
    pub fn start(layout: &Layout) -> Scene {
        let setup = NodeSetup::new().plugins(PLUGINS);
        let folder = setup.folder().to_owned();
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let flood_sink = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let unix_path = folder.join("out.sock");
        let unix = UnixDatagram::bind(&unix_path).expect("a socket");
        let address = |socket: &UdpSocket| socket.local_addr().expect("it is bound").to_string();
        let (out, flood_out) = (address(&udp), address(&flood_sink));

        let ports = free_ports::<5>();
        let function = echo_function(&folder);
        let lua = wiring(layout, &ports, &out, &flood_out, &unix_path, &function);
        let setup = setup.wiring(&lua);
        let mut node = setup.start();
        let pid = node.daemon().pid();

        let plain = Forwarder::start(Manner::Plain, &out, layout);
        let epoll = Forwarder::start(Manner::Epoll, &out, layout);
        let to_unix = Forwarder::start(Manner::ToUnix, &unix_path.display().to_string(), layout);
        let batches = Forwarder::start(Manner::Batches, &flood_out, layout);
        let ring = Forwarder::start(Manner::Ring, &out, layout);
        let ring_ordinary = Forwarder::start(Manner::RingOrdinary, &flood_out, layout);
        let bare = |name, forwarder: &Forwarder, to_unix| Way {
            name,
            target: forwarder.address,
            to_unix,
            pid: forwarder.pid(),
            beside: None,
        };
        let ours = |name, at: usize, to_unix, beside| Way {
            name,
            target: SocketAddr::from(([127, 0, 0, 1], ports[at])),
            to_unix,
            pid,
            beside: Some(beside),
        };
        let ways = vec![
            bare(PLAIN, &plain, false),
            Way { beside: Some(PLAIN), ..bare("bare epoll+recvfrom+sendto", &epoll, false) },
            Way { beside: Some(PLAIN), ..bare("bare io_uring", &ring, false) },
            bare(TO_UNIX, &to_unix, true),
            ours("tempos udp > strict > udp", 0, false, PLAIN),
            ours("tempos udp > strict > unix", 1, true, TO_UNIX),
            ours("tempos udp > dlf inline > udp", 2, false, PLAIN),
            ours("tempos udp > dlf worker > udp", 3, false, PLAIN),
        ];
        let floods = vec![
            bare(BATCHES, &batches, false),
            Way { beside: Some(BATCHES), ..bare("bare io_uring", &ring_ordinary, false) },
            ours("tempos udp > best-effort 32 > udp", 4, false, BATCHES),
        ];
        Scene {
            ways,
            floods,
            udp: Sink::Udp(udp),
            unix: Sink::Unix(unix),
            flood_sink,
            _forwarders: vec![plain, epoll, to_unix, batches, ring, ring_ordinary],
            _node: node,
        }
    }

    /// The processes that forward.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.ways.iter().chain(&self.floods).map(|way| way.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }
}

fn wiring(
    layout: &Layout,
    ports: &[u16; 5],
    out: &str,
    flood_out: &str,
    unix: &Path,
    function: &Path,
) -> String {
    let (cpu, unix, function) = (layout.forwarder_cpu, unix.display(), function.display());
    let [to_udp, to_unix, inline, worker, bulk] = ports;
    format!(
        r#"
tempos.qos "strict" {{ cpus = {{ {cpu} }} }}
tempos.qos "best-effort" {{ cpus = {{ {cpu} }}, batch = 32 }}
local function into(port) return {{ tempos.udp {{ bind = "127.0.0.1:" .. port }} }} end
tempos.topic "udp" {{ qos = "strict", ingress = into({to_udp}), egress = {{ tempos.udp {{ to = "{out}" }} }} }}
tempos.topic "unix" {{ qos = "strict", ingress = into({to_unix}), egress = {{ tempos.unix {{ path = "{unix}" }} }} }}
for name, port in pairs {{ inline = {inline}, worker = {worker} }} do
  tempos.topic(name) {{ qos = "strict", ingress = into(port) }}
  tempos.topic(name .. "/out") {{ qos = "strict", egress = {{ tempos.udp {{ to = "{out}" }} }} }}
  tempos.workflow(name) {{ from = name, to = name .. "/out",
    call = {{ method = "dlf", file = "{function}", inline = name == "inline" }} }}
end
tempos.topic "bulk" {{ ingress = into({bulk}), egress = {{ tempos.udp {{ to = "{flood_out}" }} }} }}
"#
    )
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let sockets: [UdpSocket; N] = std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    sockets.map(|socket| socket.local_addr().expect("it is bound").port())
}

/// A function in C that gives its event back: what is measured is the way to it.
fn echo_function(folder: &Path) -> PathBuf {
    let source = folder.join("echo.c");
    let text = "#include \"tempos_function.h\"\n\
                int32_t tempos_handle(const tempos_event *event, tempos_output *output)\n\
                { return tempos_write(output, event->payload, event->payload_bytes) == 0 ? 0 : 1; }\n";
    std::fs::write(&source, text).expect("the function can be written");
    let built = folder.join("echo.so");
    let status = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-I"])
        .arg(source_root().join("abi/include"))
        .arg("-o")
        .args([&built, &source])
        .status()
        .expect("a C compiler is installed");
    assert!(status.success(), "the function does not compile");
    built
}
