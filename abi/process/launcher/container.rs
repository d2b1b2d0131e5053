//! Becomes a process of a container that is already started: setns(2) by a descriptor of its first process, and no
//! more capabilities than that one may have.

use crate::system::{call, number};
use crate::{done, end_as, wait_for};

const CLONE_NEWPID: usize = 0x2000_0000;
const SIGKILL: usize = 9;
const SIGCHLD: usize = 17;
const EINVAL: isize = -22;

const PR_SET_PDEATHSIG: usize = 1;
const PR_SET_DUMPABLE: usize = 4;
const PR_CAPBSET_DROP: usize = 24;
const PR_CAP_AMBIENT: usize = 47;
const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;

/// Joins those of its namespaces that `flags` names. With the one for processes the rest goes on in a child, since
/// only children are in it; this process stays outside and waits.
pub fn enter(container: usize, flags: usize) {
    // What runs in the container must not look into this process, which still holds what is the node's.
    done(call(number::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]), "cannot hide itself from the container");
    if flags != 0 {
        done(call(number::SETNS, [container, flags, 0, 0, 0]), "may not enter the container");
    }
    call(number::CLOSE, [container, 0, 0, 0, 0]);
    if flags & CLONE_NEWPID == 0 {
        return;
    }
    let child = call(number::CLONE, [SIGCHLD, 0, 0, 0, 0]);
    done(child, "cannot start a process in the container");
    if child.0 != 0 {
        // The function's pipes end with the function.
        call(number::CLOSE_RANGE, [0, u32::MAX as usize, 0, 0, 0]);
        end_as(wait_for(child.0 as usize));
    }
}

/// Ends with the process that waits outside. A change of user undoes it, so it comes after that.
pub fn end_with_parent() {
    call(number::PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0]);
}

/// Nothing that this process starts can have a capability that is not in the set. Before a change of user.
pub fn bound(kept: usize) {
    for capability in (0..64).filter(|capability| kept >> capability & 1 == 0) {
        let dropped = call(number::PRCTL, [PR_CAPBSET_DROP, capability, 0, 0, 0]);
        if dropped.0 == EINVAL {
            // The kernel knows no more of them.
            break;
        }
        done(dropped, "may not give up capabilities");
    }
    call(number::PRCTL, [PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0]);
}

/// Gives up every capability that is not in the set, and passes none on but by the rules for root. After a change of
/// user.
pub fn keep(kept: usize) {
    // Version 3 of the interface, and this process (capset(2)).
    let header = [0x2008_0522u32, 0];
    // Effective, permitted, inheritable; the lower 32 of each, then the upper.
    let mut sets = [0u32; 6];
    let header = header.as_ptr() as usize;
    done(call(number::CAPGET, [header, sets.as_mut_ptr() as usize, 0, 0, 0]), "cannot see its capabilities");
    for (half, set) in sets.chunks_exact_mut(3).enumerate() {
        let of_half = (kept >> (32 * half)) as u32;
        set[0] &= of_half;
        set[1] &= of_half;
        set[2] = 0;
    }
    done(call(number::CAPSET, [header, sets.as_ptr() as usize, 0, 0, 0]), "may not give up capabilities");
}
