//! Functions in C, compiled when a test runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::built::{profile_folder, source_root};

/// Answers each event with its own payload.
pub const ECHO: &str = "return tempos_write(output, event->payload, event->payload_bytes);";

/// Compiles a function from the body of its `tempos_handle`. The answer is the path of the library.
///
/// # Panics
/// When there is no C compiler, or the body is wrong; its report is in the message.
pub fn function(folder: &Path, name: &str, body: &str) -> PathBuf {
    let source = format!(
        "#include <signal.h>\n#include <stdlib.h>\n#include <stdio.h>\n#include <unistd.h>\n#include \"tempos_function.h\"\n\
         int32_t tempos_handle(const tempos_event *event, tempos_output *output)\n{{\n{body}\n}}\n"
    );
    let (c, library) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    fs::write(&c, source).expect("a source can be written");
    compile(&["-I".as_ref(), source_root().join("abi/include").as_os_str()], &c, &library);
    library
}

/// Compiles a C file to a shared library.
///
/// # Panics
/// As [`function`].
pub fn compile(flags: &[&std::ffi::OsStr], source: &Path, library: &Path) {
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(library)
        .arg(source)
        .output()
        .expect("there is a C compiler");
    assert!(output.status.success(), "cc {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
}

/// Builds a function that is a package of its own, as its author would, and gives back the file: the
/// package's folder, from the root of the source tree, and the library's name. `target`: another one than
/// this machine's, for which the file is `NAME.wasm`.
///
/// # Panics
/// When it cannot be built; cargo's own report is in the message.
pub fn rust_function(folder: &str, name: &str, target: Option<&str>) -> PathBuf {
    let place = profile_folder().parent().expect("a profile lies in the target folder").join("tmp/functions");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--release", "--target-dir"]).arg(&place);
    let file = match target {
        Some(target) => place.join(target).join("release").join(format!("{name}.wasm")),
        None => place.join("release").join(format!("lib{name}.so")),
    };
    cargo.args(target.into_iter().flat_map(|target| ["--target", target]));
    let output = cargo.current_dir(source_root().join(folder)).output().expect("cargo runs");
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(file.is_file(), "{} is missing", file.display());
    file
}

/// Whether the Rust toolchain here builds for that target.
pub fn rust_builds_for(target: &str) -> bool {
    let rustc = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    rustc.is_ok_and(|said| Path::new(String::from_utf8_lossy(&said.stdout).trim()).is_dir())
}
