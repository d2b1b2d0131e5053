//! The bare things that limit the methods: a call of a function in an open library, the way to it by dlopen(3),
//! posix_spawn(3) with waitpid(2), and pipes to a process that answers.

use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::loaded::PAYLOAD;

/// `tempos_event` of abi/include/tempos_function.h.
#[repr(C)]
struct CEvent {
    struct_bytes: u32,
    level: u32,
    id: u64,
    times_ns: [u64; 3],
    topic: *const u8,
    topic_bytes: usize,
    payload: *const u8,
    payload_bytes: usize,
    attributes: *const u8,
    attributes_bytes: usize,
}

/// `tempos_output` of the same.
#[repr(C)]
struct COutput {
    struct_bytes: u32,
    flags: u32,
    data: *mut u8,
    capacity: usize,
    length: usize,
    error: *mut u8,
    error_capacity: usize,
    error_length: usize,
}

type Handle = unsafe extern "C" fn(*const CEvent, *mut COutput) -> i32;

/// A library that stays open.
pub struct Library {
    handle: *mut libc::c_void,
    function: Handle,
}

impl Library {
    /// dlopen(3) and dlsym(3).
    pub fn open(file: &Path) -> Self {
        let path = CString::new(file.as_os_str().as_bytes()).expect("no zero");
        // SAFETY: texts; the symbol is what the header says.
        unsafe {
            let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!handle.is_null());
            let symbol = libc::dlsym(handle, c"tempos_handle".as_ptr());
            assert!(!symbol.is_null());
            Library { handle, function: std::mem::transmute::<*mut libc::c_void, Handle>(symbol) }
        }
    }

    /// One event.
    pub fn call(&self) {
        let topic = b"bench";
        let event = CEvent {
            struct_bytes: size_of::<CEvent>() as u32,
            level: 0,
            id: 1,
            times_ns: [0; 3],
            topic: topic.as_ptr(),
            topic_bytes: topic.len(),
            payload: PAYLOAD.as_ptr(),
            payload_bytes: PAYLOAD.len(),
            attributes: std::ptr::null(),
            attributes_bytes: 0,
        };
        let (mut data, mut error) = ([0u8; 4096], [0u8; 256]);
        let mut output = COutput {
            struct_bytes: size_of::<COutput>() as u32,
            flags: 0,
            data: data.as_mut_ptr(),
            capacity: data.len(),
            length: 0,
            error: error.as_mut_ptr(),
            error_capacity: error.len(),
            error_length: 0,
        };
        // SAFETY: both structs and what they point at live through the call.
        let code = unsafe { (self.function)(&raw const event, &raw mut output) };
        assert_eq!((code, output.length), (0, PAYLOAD.len()));
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: open, and nobody is in it.
        unsafe { libc::dlclose(self.handle) };
    }
}

/// posix_spawn(3) of a program that reads an event from a file in memory and writes into a pipe, and waitpid(2).
pub fn spawn_and_wait(program: &Path) {
    spawn_and_wait_of(&[program.as_os_str().as_bytes()]);
}

/// The same of a program with arguments.
pub fn spawn_and_wait_of(command: &[&[u8]]) {
    let texts: Vec<CString> = command.iter().map(|text| CString::new(*text).expect("no zero")).collect();
    let mut arguments: Vec<*mut libc::c_char> = texts.iter().map(|text| text.as_ptr().cast_mut()).collect();
    arguments.push(std::ptr::null_mut());
    let mut none = [std::ptr::null_mut()];
    let mut ends = [0; 2];
    let (mut pid, mut status) = (0, 0);
    let mut answer = [0u8; 4096];
    // SAFETY: texts, and lists that end with a null; descriptors and child are this call's own.
    unsafe {
        let input = libc::memfd_create(c"event".as_ptr(), libc::MFD_CLOEXEC);
        assert_eq!(libc::pwrite(input, PAYLOAD.as_ptr().cast(), PAYLOAD.len(), 0), PAYLOAD.len() as isize);
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        let mut actions = std::mem::zeroed();
        libc::posix_spawn_file_actions_init(&raw mut actions);
        libc::posix_spawn_file_actions_adddup2(&raw mut actions, input, 0);
        libc::posix_spawn_file_actions_adddup2(&raw mut actions, ends[1], 1);
        let lists = (arguments.as_mut_ptr(), none.as_mut_ptr());
        let path = arguments[0];
        let error =
            libc::posix_spawn(&raw mut pid, path, &raw const actions, std::ptr::null(), lists.0, lists.1);
        assert_eq!(error, 0);
        libc::posix_spawn_file_actions_destroy(&raw mut actions);
        libc::close(ends[1]);
        let mut filled = 0;
        loop {
            let room = &mut answer[filled..];
            let got = libc::read(ends[0], room.as_mut_ptr().cast(), room.len());
            if got <= 0 {
                break;
            }
            filled += got as usize;
        }
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        libc::close(ends[0]);
        libc::close(input);
        assert_eq!((status, filled), (0, PAYLOAD.len()));
    }
}

/// cat(1) at the other end of two pipes.
pub struct Cat {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
}

impl Cat {
    /// Starts it.
    pub fn start() -> Self {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a cat");
        let (to, from) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        Cat { child, to, from }
    }

    /// There and back.
    pub fn echo(&mut self) {
        let mut back = [0; PAYLOAD.len()];
        self.to.as_mut().expect("it lives").write_all(&PAYLOAD).expect("written");
        self.from.read_exact(&mut back).expect("answered");
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.child.wait();
    }
}
