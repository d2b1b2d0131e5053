//! Brings a library into memory as a whole, so that a function's first event waits for no page, and its
//! first failure neither.

use std::ffi::c_void;

const PAGE_BYTES: usize = 4096;
/// Libraries with more than this (a large array, say) come page by page as they are used.
const BYTES_MAX: usize = 64 << 20;

/// Faults in, and locks where the system allows it, every page of the library that holds an address. What
/// the system refuses (an old kernel, a limit) is no error: the pages come with their first use then.
pub fn bring_in(within: *const c_void) {
    let mut within = within as usize;
    // SAFETY: the callback is called during this call only, with the pointer to the local variable.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut within).cast()) };
}

/// Called for each object that is loaded (dl_iterate_phdr(3)); ends the walk at the right one.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, within: *mut c_void) -> i32 {
    // SAFETY: the loader hands over a live description, `bring_in` its variable.
    let (info, within) = unsafe { (&*info, *within.cast::<usize>()) };
    // SAFETY: the loader's own table of so many headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let range = |header: &libc::Elf64_Phdr| {
        let start = info.dlpi_addr as usize + header.p_vaddr as usize;
        start..start + header.p_memsz as usize
    };
    let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    if !loaded().any(|header| range(header).contains(&within)) {
        return 0;
    }
    let total: usize = loaded().map(|header| header.p_memsz as usize).sum();
    if total > BYTES_MAX {
        return 1;
    }
    // The loader has written to this part already, and has made it read-only since.
    let settled = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO).map(range);
    for header in loaded() {
        let whole = range(header);
        let (mut start, end) = (whole.start & !(PAGE_BYTES - 1), whole.end.next_multiple_of(PAGE_BYTES));
        populate(start, end, libc::MADV_POPULATE_READ);
        if header.p_flags & libc::PF_W != 0 {
            if let Some(settled) = settled.as_ref().filter(|settled| whole.contains(&settled.start)) {
                start = settled.end & !(PAGE_BYTES - 1);
            }
            populate(start, end, libc::MADV_POPULATE_WRITE);
        }
    }
    1
}

fn populate(start: usize, end: usize, advice: i32) {
    if end > start {
        // SAFETY: faulting pages in and locking them changes nothing in them; the range is that of a
        // library that is open.
        unsafe {
            libc::madvise(start as *mut c_void, end - start, advice);
            libc::mlock(start as *const c_void, end - start);
        }
    }
}
