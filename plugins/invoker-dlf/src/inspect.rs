//! Looks into a shared library without running it. dlopen(3) trusts the file's own headers: one that was
//! cut off kills the process with SIGBUS.

use object::elf::{EM_AARCH64, EM_X86_64, ET_DYN, FileHeader64, Machine, PT_INTERP, PT_LOAD};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, ProgramHeader};

const MACHINE: Machine = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };

/// Whether these bytes are a whole shared library for this machine.
///
/// # Errors
/// What they are instead.
pub fn inspect(bytes: &[u8]) -> Result<(), &'static str> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err("it is not a shared library (ELF); build one with `cc -shared -fPIC`");
    }
    let cut = "it is cut off; copy it again, whole";
    let header = FileHeader64::<LittleEndian>::parse(bytes).map_err(|_| cut)?;
    let endian = header.endian().map_err(|_| "it is for a machine of another byte order")?;
    if header.e_machine(endian) != MACHINE {
        return Err("it is for another kind of machine; build it for this one");
    }
    let segments = header.program_headers(endian, bytes).map_err(|_| cut)?;
    let program = segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP);
    if header.e_type(endian) != ET_DYN || program {
        return Err("it is a program, not a shared library; build it with `cc -shared -fPIC`");
    }
    let loaded = || segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    let whole = loaded().all(|segment| {
        let end = segment.p_offset(endian).checked_add(segment.p_filesz(endian));
        end.is_some_and(|end| end <= bytes.len() as u64)
    });
    if whole && loaded().next().is_some() { Ok(()) } else { Err(cut) }
}
