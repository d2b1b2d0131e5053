//! Reads a function's file and tells what it is, before any of it is compiled.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

/// A function larger than this is refused.
const FILE_BYTES_MAX: u64 = 128 << 20;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A core module.
    Module,
    /// A component.
    Component,
}

/// Reads the file.
///
/// # Errors
/// Half a sentence: what is wrong with it.
pub fn read(path: &str) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    // O_NONBLOCK: a named pipe in the function's place must not keep us waiting.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(String::from("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(String::from("it is larger than 128 MiB"));
    }
    Ok(bytes)
}

/// Tells a module from a component by the preamble, and either from what it is not.
///
/// # Errors
/// Half a sentence: what it is instead, and what would be right.
pub fn form(bytes: &[u8]) -> Result<Form, String> {
    let Some(preamble) = bytes.first_chunk::<8>().filter(|_| bytes.starts_with(b"\0asm")) else {
        return Err(other(bytes).into());
    };
    // Version and layer, 16 bits each: https://github.com/WebAssembly/component-model, design/mvp/Binary.md.
    match (u16::from_le_bytes([preamble[4], preamble[5]]), u16::from_le_bytes([preamble[6], preamble[7]])) {
        (1, 0) => Ok(Form::Module),
        (13, 1) => Ok(Form::Component),
        (version, 0) => Err(format!("it is WebAssembly of version {version}; version 1 would be right")),
        (version, _) => Err(format!(
            "it is a WebAssembly component of version {version}; build it with tools that write version 13"
        )),
    }
}

fn other(bytes: &[u8]) -> &'static str {
    const OTHER: &str = "it is not WebAssembly; build a module (.wasm) or a component";
    let start = bytes.trim_ascii_start();
    match bytes {
        [] => "it is empty; build a WebAssembly module (.wasm) or a component",
        _ if start.starts_with(b"(module")
            || start.starts_with(b"(component")
            || start.starts_with(b";;") =>
        {
            "it is WebAssembly as text; turn it into a .wasm with wat2wasm or wasm-tools parse"
        }
        _ if bytes.starts_with(b"\x7fELF") => {
            "it is a library or program for this machine, not WebAssembly: that is for the methods dlf and spawn"
        }
        _ if b"\0asm".starts_with(bytes) || bytes.starts_with(b"\0asm") => {
            "it is cut off; copy it again, whole"
        }
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_components_are_told_apart_and_from_everything_else() {
        assert_eq!(form(b"\0asm\x01\0\0\0"), Ok(Form::Module));
        assert_eq!(form(b"\0asm\x0d\0\x01\0rest"), Ok(Form::Component));
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"\0as", "cut off"),
            (b"\0asm\x01\0", "cut off"),
            (b"\0asm\x02\0\0\0", "of version 2; version 1"),
            (b"\0asm\x0a\0\x01\0", "component of version 10"),
            (b"  (module)", "as text"),
            (b"\x7fELF\x02", "methods dlf and spawn"),
            (b"def handle(event):", "not WebAssembly"),
            (&[0xff; 4096], "not WebAssembly"),
        ] {
            let sentence = form(bytes).expect_err(words);
            assert!(sentence.contains(words), "{sentence}");
        }
    }
}
