//! The queue policies as they are built: the same `.so` that a node loads.

#[cfg(not(miri))]
use std::path::{Path, PathBuf};
#[cfg(not(miri))]
use std::process::Command;
use std::sync::OnceLock;

use tempos_abi::queue::{QueueBox, QueuePolicyBox, QueueSpec};

const NAMES: [&str; 5] = ["fifo", "priority", "edf", "drr", "newest"];

/// How many there are.
pub const COUNT: usize = NAMES.len();
/// The one that knows no rank and no deadline.
pub const FIFO: usize = 0;
/// The one that gives older events up.
pub const NEWEST: usize = 4;

/// Makes a queue of one.
pub fn open(policy: usize, spec: &QueueSpec) -> QueueBox {
    static LOADED: OnceLock<Vec<QueuePolicyBox>> = OnceLock::new();
    LOADED.get_or_init(load)[policy].open(spec).into_result().expect("the bounds are sound")
}

/// Miri runs no foreign code: the first of them, built in, in the place of each.
#[cfg(miri)]
fn load() -> Vec<QueuePolicyBox> {
    NAMES.iter().map(|name| tempos_abi::queue::guarded(name, fifo::Fifo)).collect()
}

#[cfg(miri)]
#[path = "../../../../plugins/queue-fifo/src/queue.rs"]
mod fifo;

#[cfg(not(miri))]
fn load() -> Vec<QueuePolicyBox> {
    let folder = built();
    NAMES
        .iter()
        .map(|name| {
            let module = tempos_abi::loader::load(&folder.join(format!("libtempos_queue_{name}.so")))
                .unwrap_or_else(|(sentence, _)| panic!("queue policy {name}: {sentence}"));
            let factory = module.queue_policy().into_option().expect("it is a queue policy");
            factory().into_result().expect("it has nothing to set up")
        })
        .collect()
}

#[cfg(not(miri))]
/// Builds them, unless whoever runs the tests has done so.
fn built() -> PathBuf {
    let tests = std::env::current_exe().expect("a running test has a path");
    let folder = tests.ancestors().nth(2).expect("tests are built in target/PROFILE/deps");
    if std::env::var_os("TEMPOS_TESTS_BUILT").is_none() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--quiet"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        for name in NAMES {
            cargo.arg("-p").arg(format!("tempos-queue-{name}"));
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(cargo.current_dir(root).status().expect("cargo runs").success(), "the queue policies build");
    }
    folder.to_path_buf()
}
