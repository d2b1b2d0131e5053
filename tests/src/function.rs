//! Functions in C, compiled when a test runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::built::source_root;

/// Answers each event with its own payload.
pub const ECHO: &str = "return tempos_write(output, event->payload, event->payload_bytes);";

/// Compiles a function from the body of its `tempos_handle`. The answer is the path of the library.
///
/// # Panics
/// When there is no C compiler, or the body is wrong; its report is in the message.
pub fn function(folder: &Path, name: &str, body: &str) -> PathBuf {
    let source = format!(
        "#include <stdlib.h>\n#include <stdio.h>\n#include <unistd.h>\n#include \"tempos_function.h\"\n\
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
