//! This plugin, loaded as the node loads it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{FunctionBox, FunctionSpec, InvocationMethodBox, InvokeContext, Outcome};
use tempos_abi::std_types::{RArc, ROption, RResult, RSlice, RStr};
use tempos_abi::{OptionValue, Options, QosLevel, loader};

/// A function of the plugin.
pub struct Ours {
    function: FunctionBox,
}

impl Ours {
    /// Prepares a function.
    pub fn new(name: &str, binary: &[u8], instances: &str) -> Self {
        let file =
            std::env::temp_dir().join(format!("tempos-bench-{}-{}.wasm", std::process::id(), name.len()));
        std::fs::write(&file, binary).expect("written");
        let mut options = Options::new();
        options.set("instances", OptionValue::Text(instances.into()));
        let spec = FunctionSpec {
            name: name.into(),
            file: file.display().to_string().into(),
            level: QosLevel::STRICT,
            warm: 1,
            concurrency: 1,
            output_bytes_max: 4096,
            deadline_ns: 10_000_000,
            memory_bytes: 16 << 20,
            options,
            counters: RArc::default(),
            reserved: [0; 4],
        };
        let function = match method().prepare(&spec) {
            RResult::ROk(function) => function,
            RResult::RErr(error) => panic!("{error}"),
        };
        let _ = std::fs::remove_file(&file);
        Ours { function }
    }

    /// Works on an event, with a deadline as in a node.
    pub fn event(&self, payload: &[u8]) {
        let event = EventView {
            id: 1,
            topic: RStr::from_str("bench"),
            level: QosLevel::STRICT,
            source_time_ns: 0,
            arrival_ns: 0,
            deadline_ns: 0,
            payload: RSlice::from_slice(payload),
            attribute_block: RSlice::from_slice(&[]),
            reserved: [0; 4],
        };
        let (mut buffer, mut sentence) = ([0; 4096], [0; 256]);
        let mut output = Output::new(&mut buffer, &mut sentence);
        let context =
            InvokeContext { worker: 0, flags: 0, deadline_ns: now_ns() + 10_000_000_000, reserved: [0; 2] };
        let outcome = self.function.invoke(&event, &mut output, &context);
        assert_eq!(outcome, Outcome::DONE, "{}", output.explanation());
        assert_eq!(output.emitted(), Some(payload.len()));
    }
}

fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct is live; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn method() -> &'static InvocationMethodBox {
    static METHOD: OnceLock<InvocationMethodBox> = OnceLock::new();
    METHOD.get_or_init(|| {
        let module = loader::load(&built()).unwrap_or_else(|(sentence, _)| panic!("{sentence}"));
        let ROption::RSome(factory) = module.invocation_method() else { panic!("no invocation method") };
        match factory() {
            RResult::ROk(method) => method,
            RResult::RErr(error) => panic!("{error}"),
        }
    })
}

/// The plugin, built in the profile that this bench was built in.
fn built() -> PathBuf {
    let this = std::env::current_exe().expect("a running bench has a file");
    let profile = this.ancestors().nth(2).expect("it lies in PROFILE/deps").to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    cargo.args(["build", "--quiet", "-p", "tempos-invoker-wasm", "--target-dir"]);
    cargo.arg(profile.parent().expect("PROFILE lies in the target folder"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "the plugin does not build");
    profile.join("libtempos_invoker_wasm.so")
}
