//! The filter of system calls behind `seccomp = "basic"`: a list of what is refused (EPERM), for the launcher.
//!
//! A list of what is allowed would have to know every function; this one takes away what changes the machine,
//! looks into other processes, or has often been the way out of a sandbox.

// Offsets of struct seccomp_data, and instructions, as seccomp(2) and linux/filter.h have them.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const ANSWER: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Calls of the x32 interface have this bit, and are refused as a whole.
const X32_BIT: u32 = 0x4000_0000;

const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The filter as hexadecimal digits: eight bytes for each instruction, little endian.
pub fn filter() -> String {
    let mut text = String::new();
    let mut push = |code: u16, yes: u8, no: u8, value: u32| {
        let [c0, c1] = code.to_le_bytes();
        let bytes = [c0, c1, yes, no].into_iter().chain(value.to_le_bytes());
        bytes.for_each(|byte| text.push_str(&format!("{byte:02x}")));
    };
    push(LOAD, 0, 0, ARCHITECTURE_AT);
    push(JUMP_EQUAL, 1, 0, ARCHITECTURE);
    push(ANSWER, 0, 0, KILL);
    push(LOAD, 0, 0, NUMBER_AT);
    push(JUMP_AT_LEAST, 0, 1, X32_BIT);
    push(ANSWER, 0, 0, REFUSE);
    for number in REFUSED {
        push(JUMP_EQUAL, 0, 1, *number as u32);
        push(ANSWER, 0, 0, REFUSE);
    }
    push(ANSWER, 0, 0, ALLOW);
    text
}
