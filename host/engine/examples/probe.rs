//! The trial load that `temposd --probe FILE` is, by itself: the tests' probe, and a way to try a file by
//! hand.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(file) => tempos_engine::plugin::probe_main(&PathBuf::from(file)),
        None => {
            eprintln!("usage: probe FILE");
            ExitCode::from(64)
        }
    }
}
