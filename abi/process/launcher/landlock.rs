//! The files that a function may see (landlock(7)): what no rule names is refused by the kernel.

use core::ffi::c_char;

use crate::system::{Code, O_CLOEXEC, O_PATH, call, number};
use crate::{done, open};

/// Reading, and running programs: LANDLOCK_ACCESS_FS_EXECUTE, READ_FILE, READ_DIR.
pub const READ: u64 = 1 | 4 | 8;
/// Everything that the first version of the interface knows: reading, and also WRITE_FILE, REMOVE_*, MAKE_*.
pub const WRITE: u64 = (1 << 13) - 1;

// The same numbers on every architecture.
const CREATE_RULESET: usize = 444;
const ADD_RULE: usize = 445;
const RESTRICT_SELF: usize = 446;

/// What may be done with a file that is no folder.
const OF_FILES: u64 = 1 | 2 | 4 | (1 << 14);
/// LANDLOCK_ACCESS_FS_REFER (interface 2), TRUNCATE (3).
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

const PATH_BENEATH: usize = 1;
const EINVAL: isize = -22;

/// Rules; none: everything is allowed.
pub struct Ruleset {
    handle: Option<usize>,
    handled: u64,
}

impl Ruleset {
    pub fn new() -> Self {
        Ruleset { handle: None, handled: WRITE }
    }

    /// Allows what lies at a path, and below it.
    pub fn allow(&mut self, path: *const c_char, access: u64) {
        #[repr(C, packed)]
        struct Beneath {
            allowed: u64,
            parent: i32,
        }
        let handle = self.handle();
        let file = open(path, O_PATH | O_CLOEXEC);
        done(file, "cannot find a path that the function may read or write");
        let allowed = if access == WRITE { self.handled } else { access };
        let mut rule = Beneath { allowed, parent: file.0 as i32 };
        let add =
            |rule: &Beneath| call(ADD_RULE, [handle, PATH_BENEATH, core::ptr::from_ref(rule) as usize, 0, 0]);
        let mut added = add(&rule);
        if added.0 == EINVAL {
            // A file that is no folder cannot be allowed what only folders have.
            rule.allowed = allowed & OF_FILES & self.handled;
            added = add(&rule);
        }
        done(added, "cannot allow a path (landlock)");
        call(number::CLOSE, [file.0 as usize, 0, 0, 0, 0]);
    }

    fn handle(&mut self) -> usize {
        if let Some(handle) = self.handle {
            return handle;
        }
        const VERSION: usize = 1;
        let version = call(CREATE_RULESET, [0, 0, VERSION, 0, 0]);
        done(version, "cannot bound the files that the function sees: this kernel has no landlock");
        if version.0 >= 2 {
            self.handled |= REFER;
        }
        if version.0 >= 3 {
            self.handled |= TRUNCATE;
        }
        let created = call(CREATE_RULESET, [&raw const self.handled as usize, 8, 0, 0, 0]);
        done(created, "cannot bound the files that the function sees (landlock)");
        self.handle = Some(created.0 as usize);
        created.0 as usize
    }

    /// From here on the rules hold, for this process and everything that it starts.
    pub fn enter(&self) {
        if let Some(handle) = self.handle {
            let entered: Code = call(RESTRICT_SELF, [handle, 0, 0, 0, 0]);
            done(entered, "cannot bound the files that the function sees (landlock)");
            call(number::CLOSE, [handle, 0, 0, 0, 0]);
        }
    }
}
