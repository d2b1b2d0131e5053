//! Where the plugin's file begins when it runs as a program.
//!
//! A user drops one file: there is no helper beside it. The dynamic loader runs a shared library as a program
//! just as well (`ld.so FILE ARGUMENTS...`, ld.so(8)) where it has an entry point; `build.rs` names this one.
//! It is what every program of the C library begins with.

use std::ffi::{CStr, c_char, c_int};

use super::child;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.tempos_dlf_entry,\"ax\",@progbits",
    ".globl tempos_dlf_entry",
    ".type tempos_dlf_entry,@function",
    "tempos_dlf_entry:",
    "xor ebp, ebp",
    "mov r9, rdx",
    "pop rsi",
    "mov rdx, rsp",
    "and rsp, -16",
    "push rax",
    "push rsp",
    "xor r8d, r8d",
    "xor ecx, ecx",
    "lea rdi, [rip + {main}]",
    "call qword ptr [rip + __libc_start_main@GOTPCREL]",
    "hlt",
    ".popsection",
    main = sym main,
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .text.tempos_dlf_entry,\"ax\",@progbits",
    ".globl tempos_dlf_entry",
    ".type tempos_dlf_entry,@function",
    "tempos_dlf_entry:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x5, x0",
    "ldr x1, [sp]",
    "add x2, sp, #8",
    "mov x6, sp",
    "adrp x0, {main}",
    "add x0, x0, :lo12:{main}",
    "mov x3, #0",
    "mov x4, #0",
    "bl __libc_start_main",
    "brk #1000",
    ".popsection",
    main = sym main,
);

extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let arguments = (1..usize::try_from(count).unwrap_or(0)).map(|at| {
        // SAFETY: the C library hands over so many C strings, which live as long as the process.
        unsafe { CStr::from_ptr(*arguments.add(at)) }
    });
    child::run(arguments)
}
