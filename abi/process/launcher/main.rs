//! `tempos-exec`: enters a container where it is told to, takes away what a function may not have, then becomes the
//! function. With `--guard` it waits
//! for the end of the node instead, and ends what the node has left.
//!
//! It is run between posix_spawn(3) and the function, so it is small: no allocator, no libc, no Rust runtime,
//! static. The plugin carries it in its own file and starts it from memory. It knows system calls; it refuses to
//! know events, options and names: whatever needs a look-up was looked up before.
//!
//! `tempos-exec [OPTION VALUE]... -- PROGRAM ARGUMENTS...`; options are carried out in the order of [`apply`].
//! What the system refuses ends it with code 125 and one sentence on the standard error.

#![no_std]
#![no_main]

mod container;
mod landlock;
mod system;
mod word;

use core::ffi::{CStr, c_char};

use landlock::Ruleset;
use system::{Code, call, number};

/// How it ends where it could not become the function.
const REFUSED: i32 = 125;

const CLONE_NEWNS: usize = 0x0002_0000;
const CLONE_NEWPID: usize = 0x2000_0000;
const SIGKILL: usize = 9;
const SIGCHLD: usize = 17;

/// Control groups that it can be told to enter: one for each hierarchy of cgroups(7), version 1, and some more.
const CGROUPS_MAX: usize = 24;

/// What the arguments say.
struct Plan {
    check: bool,
    wait: Option<usize>,
    cgroups: [*const c_char; CGROUPS_MAX],
    cgroups_count: usize,
    container: Option<usize>,
    joined: usize,
    directory: *const c_char,
    capabilities: Option<usize>,
    namespaces: usize,
    groups: Option<&'static [u8]>,
    group: Option<usize>,
    user: Option<usize>,
    no_new_privileges: bool,
    filter: Option<&'static [u8]>,
    rules: Ruleset,
}

/// Called by the entry with the stack as the kernel has left it: count, arguments, null, environment, null.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the layout that execve(2) leaves.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const c_char>()) };
    // SAFETY: as above: so many arguments, a null, then the environment.
    let environment = unsafe { arguments.add(count + 1) };
    let argument = |at: usize| {
        if at < count {
            // SAFETY: within the arguments, which are texts that live as long as the process.
            unsafe { CStr::from_ptr(*arguments.add(at)) }.to_bytes()
        } else {
            b""
        }
    };
    if argument(1) == b"--guard" {
        guard(decimal(argument(2)), decimal(argument(3)));
    }
    let mut plan = Plan {
        check: false,
        wait: None,
        cgroups: [core::ptr::null(); CGROUPS_MAX],
        cgroups_count: 0,
        container: None,
        joined: 0,
        directory: core::ptr::null(),
        capabilities: None,
        namespaces: 0,
        groups: None,
        group: None,
        user: None,
        no_new_privileges: false,
        filter: None,
        rules: Ruleset::new(),
    };
    let mut at = 1;
    while at < count && argument(at) != b"--" {
        // SAFETY: the list of arguments ends with a null, which is not read as a text.
        let text = unsafe { *arguments.add(at + 1) };
        let value = argument(at + 1);
        match argument(at) {
            b"--check" => plan.check = value == b"1",
            b"--wait" => plan.wait = Some(decimal(value)),
            b"--cgroup" if plan.cgroups_count < CGROUPS_MAX => {
                plan.cgroups[plan.cgroups_count] = text;
                plan.cgroups_count += 1;
            }
            b"--container" => plan.container = Some(decimal(value)),
            b"--join" => plan.joined = decimal(value),
            b"--directory" => plan.directory = text,
            b"--capabilities" => plan.capabilities = Some(decimal(value)),
            b"--namespaces" => plan.namespaces = decimal(value),
            b"--limit" => limit(value),
            b"--groups" => plan.groups = Some(value),
            b"--group" => plan.group = Some(decimal(value)),
            b"--user" => plan.user = Some(decimal(value)),
            b"--no-new-privileges" => plan.no_new_privileges = value == b"1",
            b"--seccomp" => plan.filter = Some(value),
            b"--readable" => plan.rules.allow(text, landlock::READ),
            b"--writable" => plan.rules.allow(text, landlock::WRITE),
            _ => fail("does not know an option that it was given", Code(0)),
        }
        at += 2;
    }
    if at + 1 >= count {
        fail("was given no program", Code(0));
    }
    apply(&plan);
    if plan.check {
        system::exit(0);
    }
    let mut word = word::Word::new();
    let environment = match plan.wait {
        Some(from) => word.wait(from, environment),
        None => environment,
    };
    // SAFETY: a list of texts that ends with a null, and the environment likewise.
    let refused = unsafe {
        call(
            number::EXECVE,
            [*arguments.add(at + 1) as usize, arguments.add(at + 1) as usize, environment as usize, 0, 0],
        )
    };
    fail("cannot start the program", refused)
}

/// Carries the plan out, what needs privileges first.
fn apply(plan: &Plan) {
    // Their paths are the node's: opened before the container's files are the only ones, entered in it.
    let mut groups = [0usize; CGROUPS_MAX];
    let groups = &mut groups[..plan.cgroups_count];
    for (group, path) in groups.iter_mut().zip(&plan.cgroups) {
        let file = open(*path, system::O_WRONLY | system::O_CLOEXEC);
        done(file, "cannot open its control group");
        *group = file.0 as usize;
    }
    if let Some(container) = plan.container {
        container::enter(container, plan.joined);
    }
    // A group of CPUs would give this process all of its own, instead of the level's.
    let mut cpus = [0u64; 16];
    let bytes = call(number::SCHED_GETAFFINITY, [0, 128, cpus.as_mut_ptr() as usize, 0, 0]).0;
    let entered = !groups.is_empty();
    for group in groups {
        let written = call(number::WRITE, [*group, b"0".as_ptr() as usize, 1, 0, 0]);
        done(written, "may not enter its control group");
        call(number::CLOSE, [*group, 0, 0, 0, 0]);
    }
    if entered && bytes > 0 {
        // Refused where the two have none in common: then the group's hold.
        call(number::SCHED_SETAFFINITY, [0, bytes as usize, cpus.as_ptr() as usize, 0, 0]);
    }
    if plan.namespaces != 0 {
        namespaces(plan.namespaces);
    }
    if let Some(kept) = plan.capabilities {
        container::bound(kept);
    }
    if let Some(groups) = plan.groups {
        let mut list = [0u32; 64];
        let mut count = 0;
        for group in groups.split(|byte| *byte == b',').filter(|text| !text.is_empty()).take(list.len()) {
            list[count] = decimal(group) as u32;
            count += 1;
        }
        done(call(number::SETGROUPS, [count, list.as_ptr() as usize, 0, 0, 0]), "may not set its groups");
    }
    if let Some(group) = plan.group {
        done(call(number::SETRESGID, [group, group, group, 0, 0]), "may not change its group");
    }
    if let Some(user) = plan.user {
        done(call(number::SETRESUID, [user, user, user, 0, 0]), "may not change its user");
    }
    if let Some(kept) = plan.capabilities {
        container::keep(kept);
    }
    if plan.container.is_some() && plan.joined & CLONE_NEWPID != 0 {
        container::end_with_parent();
    }
    if !plan.directory.is_null() {
        let entered = call(number::CHDIR, [plan.directory as usize, 0, 0, 0, 0]);
        done(entered, "cannot enter its working directory");
    }
    if plan.no_new_privileges {
        const PR_SET_NO_NEW_PRIVS: usize = 38;
        done(call(number::PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]), "cannot give up new privileges");
    }
    plan.rules.enter();
    if let Some(filter) = plan.filter {
        seccomp(filter);
    }
}

/// `RESOURCE=VALUE` or `RESOURCE=SOFT:HARD`, all decimal (setrlimit(2)).
fn limit(text: &[u8]) {
    let mut parts = text.splitn(2, |byte| *byte == b'=');
    let resource = decimal(parts.next().unwrap_or(b""));
    let mut values = parts.next().unwrap_or(b"").splitn(2, |byte| *byte == b':');
    let soft = decimal(values.next().unwrap_or(b"")) as u64;
    let hard = values.next().map_or(soft, |text| decimal(text) as u64);
    let both = [soft, hard];
    done(call(number::PRLIMIT, [0, resource, both.as_ptr() as usize, 0, 0]), "may not set a limit");
}

/// Leaves the namespaces of the node. With one for processes the rest goes on in a child.
fn namespaces(flags: usize) {
    done(call(number::UNSHARE, [flags, 0, 0, 0, 0]), "may not have new namespaces");
    let empty = c"".as_ptr() as usize;
    if flags & CLONE_NEWNS != 0 {
        const MS_REC_PRIVATE: usize = 0x4000 | 0x4_0000;
        let root = c"/".as_ptr() as usize;
        done(
            call(number::MOUNT, [empty, root, empty, MS_REC_PRIVATE, 0]),
            "cannot keep its mounts to itself",
        );
    }
    if flags & CLONE_NEWPID != 0 {
        first_process(flags & CLONE_NEWNS != 0);
    }
}

/// Goes on in the second process of a new namespace. The first one only waits for it: the kernel keeps signals from
/// a first process, and a function that raises one is to end by it. This process waits for both.
fn first_process(mounts: bool) {
    const PR_SET_PDEATHSIG: usize = 1;
    let mut pipe = [0i32; 2];
    done(call(number::PIPE2, [pipe.as_mut_ptr() as usize, system::O_CLOEXEC, 0, 0, 0]), "cannot make a pipe");
    let [reading, writing] = pipe.map(|descriptor| descriptor as usize);
    let close = |descriptor: usize| call(number::CLOSE, [descriptor, 0, 0, 0, 0]);
    let fork = || {
        let child = call(number::CLONE, [SIGCHLD, 0, 0, 0, 0]);
        done(child, "cannot start a process in its namespace");
        child.0 as usize
    };
    let first = fork();
    if first != 0 {
        close(writing);
        let mut status = wait_for(first);
        // What the first process tells of the second; nothing where it was killed itself.
        call(number::READ, [reading, &raw mut status as usize, 4, 0, 0]);
        end_as(status);
    }
    call(number::PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0]);
    close(reading);
    if mounts {
        const MS_NOSUID_NODEV_NOEXEC: usize = 2 | 4 | 8;
        let (kind, place) = (c"proc".as_ptr() as usize, c"/proc".as_ptr() as usize);
        let mounted = call(number::MOUNT, [kind, place, kind, MS_NOSUID_NODEV_NOEXEC, 0]);
        done(mounted, "cannot mount its own /proc");
    }
    let second = fork();
    if second != 0 {
        let status = wait_for(second);
        call(number::WRITE, [writing, &raw const status as usize, 4, 0, 0]);
        // With the first process ends everything in the namespace.
        system::exit(0);
    }
    close(writing);
}

/// Waits for a child, and reaps all others that end before it.
pub(crate) fn wait_for(child: usize) -> i32 {
    const EINTR: isize = -4;
    const ANY: usize = usize::MAX;
    loop {
        let mut status = 0i32;
        let ended = call(number::WAIT4, [ANY, &raw mut status as usize, 0, 0, 0]).0;
        if ended == child as isize {
            return status;
        }
        if ended < 0 && ended != EINTR {
            return 0xff00;
        }
    }
}

/// Ends as a child has ended.
pub(crate) fn end_as(status: i32) -> ! {
    let signal = status & 0x7f;
    if signal != 0 {
        let own = call(number::GETPID, [0; 5]).0 as usize;
        call(number::KILL, [own, signal as usize, 0, 0, 0]);
    }
    system::exit((status >> 8) & 0xff)
}

/// A filter of eight bytes for each instruction, in hexadecimal digits (seccomp(2)).
fn seccomp(text: &[u8]) {
    const PR_SET_SECCOMP: usize = 22;
    const FILTER: usize = 2;
    #[repr(C)]
    struct Program {
        count: u16,
        instructions: *const u64,
    }
    let mut instructions = [0u64; 256];
    let mut count = 0;
    for chunk in text.chunks_exact(16).take(instructions.len()) {
        let mut bytes = [0u8; 8];
        for (byte, pair) in bytes.iter_mut().zip(chunk.chunks_exact(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        instructions[count] = u64::from_le_bytes(bytes);
        count += 1;
    }
    let program = Program { count: count as u16, instructions: instructions.as_ptr() };
    let refused = call(number::PRCTL, [PR_SET_SECCOMP, FILTER, &raw const program as usize, 0, 0]);
    done(refused, "cannot filter its system calls (seccomp)");
}

/// Waits until the node has gone, then ends the process groups that its table names. The table is shared
/// memory: `bytes` of 32-bit numbers, 0 where there is none.
fn guard(table: usize, bytes: usize) -> ! {
    const PROT_READ: usize = 1;
    const MAP_SHARED: usize = 1;
    let mapped = system::map(bytes, PROT_READ, MAP_SHARED, table);
    done(mapped, "cannot see the table of processes");
    let mut byte = 0u8;
    const EINTR: isize = -4;
    loop {
        let read = call(number::READ, [0, &raw mut byte as usize, 1, 0, 0]).0;
        if read <= 0 && read != EINTR {
            break;
        }
    }
    for at in 0..bytes / 4 {
        // SAFETY: within the mapping, which lives as long as the process.
        let group = unsafe { (mapped.0 as *const i32).add(at).read_volatile() };
        if group > 1 {
            call(number::KILL, [-(group as isize) as usize, SIGKILL, 0, 0, 0]);
        }
    }
    system::exit(0)
}

fn open(path: *const c_char, flags: usize) -> Code {
    const AT_FDCWD: usize = -100isize as usize;
    call(number::OPENAT, [AT_FDCWD, path as usize, flags, 0, 0])
}

fn decimal(text: &[u8]) -> usize {
    text.iter()
        .fold(0usize, |sum, byte| sum.wrapping_mul(10).wrapping_add(usize::from(byte.wrapping_sub(b'0'))))
}

fn digit(letter: u8) -> u8 {
    if letter >= b'a' { letter - b'a' + 10 } else { letter.wrapping_sub(b'0') }
}

fn done(code: Code, what: &str) {
    if code.0 < 0 {
        fail(what, code);
    }
}

/// One sentence, and the number of the error where there is one.
fn fail(what: &str, code: Code) -> ! {
    let write = |text: &[u8]| {
        call(number::WRITE, [2, text.as_ptr() as usize, text.len(), 0, 0]);
    };
    write(b"tempos-exec: ");
    write(what.as_bytes());
    if code.0 < 0 {
        let mut digits = [0u8; 8];
        let (mut at, mut left) = (digits.len(), -code.0);
        while left > 0 && at > 0 {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        write(b" (os error ");
        write(&digits[at..]);
        write(b")");
    }
    write(b"\n");
    system::exit(REFUSED)
}
