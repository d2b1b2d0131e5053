//! Looks at a function's file without running it: what cannot be a program is refused when the workflow is
//! applied, not at its first event.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use object::elf::{EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, Machine, PT_LOAD};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, ProgramHeader};
use tempos_abi::PluginError;
use tempos_abi::invoker::FunctionSpec;
use tempos_process::runtime::Runtime;

const MACHINE: Machine = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
/// Enough for the headers of any program, and for the first line of a script.
const HEAD_BYTES: u64 = 64 * 1024;

/// Whether the file can be run, or read by the runtime's interpreter.
///
/// # Errors
/// One sentence: what is wrong with it.
pub fn inspect(spec: &FunctionSpec, runtime: Runtime) -> Result<(), PluginError> {
    let (workflow, file) = (&spec.name, &spec.file);
    let unreadable = |error: io::Error| {
        let sentence = format!("function of workflow \"{workflow}\": cannot read {file}: {error}");
        PluginError::new(PluginError::BAD_FUNCTION, sentence)
    };
    let wrong = |what: &str| {
        let sentence = format!("function of workflow \"{workflow}\": {file} cannot be used: {what}");
        PluginError::new(PluginError::BAD_FUNCTION, sentence)
    };
    // O_NONBLOCK: a named pipe in the function's place must not keep us waiting.
    let source = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(file.as_str());
    let source = source.map_err(unreadable)?;
    let about = source.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    if runtime != Runtime::Native {
        return if about.len() == 0 { Err(wrong("it is empty; it must define `handle`")) } else { Ok(()) };
    }
    let mut head = Vec::new();
    source.take(HEAD_BYTES).read_to_end(&mut head).map_err(unreadable)?;
    program(&head, about.len()).map_err(wrong)?;
    if about.mode() & 0o111 == 0 {
        return Err(wrong("nobody may execute it; set its mode with `chmod +x`"));
    }
    Ok(())
}

/// Whether a file of that length which begins with these bytes is a program for this machine, or a script.
fn program(head: &[u8], length: u64) -> Result<(), &'static str> {
    if head.starts_with(b"#!") {
        return Ok(());
    }
    if !head.starts_with(b"\x7fELF") {
        return Err("it is neither a program (ELF) nor a script that begins with `#!`");
    }
    let cut = "it is cut off; copy it again, whole";
    let header = FileHeader64::<LittleEndian>::parse(head).map_err(|_| cut)?;
    let endian = header.endian().map_err(|_| "it is for a machine of another byte order")?;
    if header.e_machine(endian) != MACHINE {
        return Err("it is for another kind of machine; build it for this one");
    }
    if ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) || header.e_entry(endian) == 0 {
        return Err("it is not a program: it has no entry; link it as one");
    }
    let segments = header.program_headers(endian, head).map_err(|_| cut)?;
    let whole = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).all(|segment| {
        segment.p_offset(endian).checked_add(segment.p_filesz(endian)).is_some_and(|end| end <= length)
    });
    if whole { Ok(()) } else { Err(cut) }
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn a_program_is_told_from_what_is_none() {
        let own = std::fs::read("/proc/self/exe").expect("this test");
        assert_eq!(program(&own, own.len() as u64), Ok(()));
        assert_eq!(program(b"#!/bin/sh\n", 10), Ok(()));
        assert_eq!(program(&own, 4000), Err("it is cut off; copy it again, whole"));
        assert_eq!(program(&own[..20], 20), Err("it is cut off; copy it again, whole"));
        let mut foreign = own[..4096].to_vec();
        foreign[18] ^= 0xff;
        assert!(program(&foreign, own.len() as u64).is_err_and(|what| what.contains("another kind")));
        assert!(program(b"text", 4).is_err() && program(b"", 0).is_err());
    }
}
