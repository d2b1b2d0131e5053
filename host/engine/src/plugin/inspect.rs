//! Looks at a file's bytes before the dynamic loader may: dlopen(3) of a file that was cut off kills the
//! process with SIGBUS at the first touch of a page that is not there, and runs constructors before any
//! check. Pure: bytes in, manifest or sentence out; it never panics, whatever the bytes are.

use object::LittleEndian;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _, SectionTable, Sym as _};
use tempos_abi::loader::{MANIFEST_SECTION, ROOT_SYMBOL};

use super::manifest::Manifest;

type Header = FileHeader64<LittleEndian>;
type Sections<'data> = SectionTable<'data, Header>;

const LE: LittleEndian = LittleEndian;
const HEADER_BYTES: usize = 64;

/// Checks that `bytes` are a whole shared library of this machine that exports a TEMPOS root module, and
/// reads its manifest.
///
/// # Errors
/// One sentence about the file, without its name.
pub fn inspect(bytes: &[u8]) -> Result<Manifest, String> {
    let header = header(bytes)?;
    let segments = segments(header, bytes)?;
    let sections = sections(header, bytes)?;
    if segments.iter().any(|segment| segment.p_type(LE) == elf::PT_INTERP) {
        return Err(String::from(
            "it is an executable, not a shared library; build it with crate type cdylib",
        ));
    }
    let manifest = manifest(&sections, bytes)?;
    root_symbol(&sections, bytes)?;
    Ok(manifest)
}

fn header(bytes: &[u8]) -> Result<&Header, String> {
    if bytes.is_empty() {
        return Err(String::from("the file is empty"));
    }
    if !bytes.starts_with(b"\x7fELF") {
        let start = &bytes[..bytes.len().min(16)];
        return Err(format!("it is not an ELF file: it begins with \"{}\"", start.escape_ascii()));
    }
    if bytes.len() < HEADER_BYTES {
        return Err(cut_off(bytes.len(), HEADER_BYTES as u64));
    }
    let (class, order) = (bytes[4], bytes[5]);
    if class != 2 || order != 1 {
        let what = |known: &[(u8, &str)], value: u8| {
            known.iter().find(|(v, _)| *v == value).map_or("unknown", |(_, word)| *word).to_owned()
        };
        return Err(format!(
            "it is a {} {} ELF file; this host loads 64-bit little-endian ones",
            what(&[(1, "32-bit"), (2, "64-bit")], class),
            what(&[(1, "little-endian"), (2, "big-endian")], order)
        ));
    }
    let header = Header::parse(bytes).map_err(|error| format!("its ELF header is damaged: {error}"))?;
    let machine = header.e_machine(LE).0;
    if OWN_MACHINE != 0 && machine != OWN_MACHINE {
        return Err(format!(
            "it was built for {}, this machine is {}",
            machine_word(machine),
            machine_word(OWN_MACHINE)
        ));
    }
    match header.e_type(LE) {
        elf::ET_DYN => Ok(header),
        elf::ET_EXEC => {
            Err(String::from("it is an executable, not a shared library; build it with crate type cdylib"))
        }
        elf::ET_REL => Err(String::from("it is an object file, not a shared library; link it with -shared")),
        elf::ET_CORE => Err(String::from("it is a core dump, not a shared library")),
        other => Err(format!("its ELF type {} is not that of a shared library", other.0)),
    }
}

fn segments<'data>(
    header: &Header,
    bytes: &'data [u8],
) -> Result<&'data [ProgramHeader64<LittleEndian>], String> {
    let whole = u64::from(header.e_phnum(LE)) * u64::from(header.e_phentsize(LE));
    within(header.e_phoff(LE), whole, bytes.len())?;
    let segments = header
        .program_headers(LE, bytes)
        .map_err(|error| format!("its table of segments is damaged: {error}"))?;
    let mut loadable = 0;
    for segment in segments {
        let (offset, in_file, in_memory) = (segment.p_offset(LE), segment.p_filesz(LE), segment.p_memsz(LE));
        match segment.p_type(LE) {
            elf::PT_LOAD => {
                loadable += 1;
                within(offset, in_file, bytes.len())?;
                if in_memory < in_file || segment.p_vaddr(LE).checked_add(in_memory).is_none() {
                    return Err(String::from(
                        "its table of segments is damaged: a segment has no possible size",
                    ));
                }
            }
            elf::PT_DYNAMIC => within(offset, in_file, bytes.len())?,
            _ => {}
        }
    }
    if loadable == 0 {
        return Err(String::from("it holds nothing to load; it may be a file of debugging symbols only"));
    }
    Ok(segments)
}

fn sections<'data>(header: &Header, bytes: &'data [u8]) -> Result<Sections<'data>, String> {
    let whole = u64::from(header.e_shnum(LE)) * u64::from(header.e_shentsize(LE));
    within(header.e_shoff(LE), whole, bytes.len())?;
    header.sections(LE, bytes).map_err(|error| format!("its table of sections is damaged: {error}"))
}

fn manifest(sections: &Sections<'_>, bytes: &[u8]) -> Result<Manifest, String> {
    let Some((_, section)) = sections.section_by_name(LE, MANIFEST_SECTION.as_bytes()) else {
        return Err(format!(
            "it is an ordinary shared library without the section {MANIFEST_SECTION}; a plugin is built with tempos_abi::export_plugin!"
        ));
    };
    let content = section
        .data(LE, bytes)
        .map_err(|error| format!("its section {MANIFEST_SECTION} is damaged: {error}"))?;
    Manifest::parse(content)
}

fn root_symbol(sections: &Sections<'_>, bytes: &[u8]) -> Result<(), String> {
    let damaged = |error| format!("its table of exported symbols is damaged: {error}");
    let table = sections.symbols(LE, bytes, elf::SHT_DYNSYM).map_err(damaged)?;
    let exported = table.iter().any(|symbol| {
        !symbol.is_undefined(LE)
            && symbol.name(LE, table.strings()).is_ok_and(|name| name == ROOT_SYMBOL.as_bytes())
    });
    if exported {
        return Ok(());
    }
    Err(String::from(
        "it has a manifest but exports no TEMPOS root module; build it with tempos_abi::export_plugin! and crate type cdylib",
    ))
}

/// Whether `size` bytes from `offset` lie inside a file of `len` bytes.
fn within(offset: u64, size: u64, len: usize) -> Result<(), String> {
    match offset.checked_add(size) {
        Some(end) if end <= len as u64 => Ok(()),
        Some(end) => Err(cut_off(len, end)),
        None => Err(String::from("its tables are damaged: an offset is out of range")),
    }
}

fn cut_off(len: usize, end: u64) -> String {
    format!("it is cut off or damaged: it has {len} bytes, and its tables reach to byte {end}; copy it again")
}

const OWN_MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    elf::EM_X86_64.0
} else if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64.0
} else if cfg!(target_arch = "riscv64") {
    elf::EM_RISCV.0
} else {
    0 // Left to the dynamic loader.
};

fn machine_word(machine: u16) -> String {
    match elf::Machine(machine) {
        elf::EM_386 => String::from("x86 (32 bit)"),
        elf::EM_X86_64 => String::from("x86-64"),
        elf::EM_ARM => String::from("ARM (32 bit)"),
        elf::EM_AARCH64 => String::from("AArch64"),
        elf::EM_RISCV => String::from("RISC-V"),
        elf::EM_PPC64 => String::from("PowerPC 64"),
        elf::EM_S390 => String::from("s390"),
        _ => format!("machine number {machine}"),
    }
}
