//! The capabilities that the process has (capabilities(7)).

use super::read;

/// Those that matter to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// CAP_SYS_NICE: real-time priorities and negative nice values beyond the rlimits.
    pub sys_nice: bool,
    /// CAP_IPC_LOCK: locked memory beyond the rlimit.
    pub ipc_lock: bool,
    /// CAP_NET_ADMIN: socket buffers beyond the sysctl, SO_PRIORITY above 6.
    pub net_admin: bool,
    /// CAP_NET_RAW: SO_PRIORITY above 6 as well, since Linux 5.16.
    pub net_raw: bool,
}

const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const IPC_LOCK: u32 = 14;
const SYS_NICE: u32 = 23;

impl Rights {
    /// Reads them from the kernel.
    pub fn of_this_process() -> Self {
        read("/proc/self/status").map(|text| Rights::of(&text)).unwrap_or_default()
    }

    /// Those in the text of /proc/PID/status; none where it does not say.
    pub fn of(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let set = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
        let has = |number: u32| set & (1 << number) != 0;
        Rights {
            sys_nice: has(SYS_NICE),
            ipc_lock: has(IPC_LOCK),
            net_admin: has(NET_ADMIN),
            net_raw: has(NET_RAW),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_counts() {
        let status =
            |set: &str| format!("Name:\ttemposd\nCapPrm:\t000001ffffffffff\nCapEff:\t{set}\nCapBnd:\t0\n");
        let all = Rights { sys_nice: true, ipc_lock: true, net_admin: true, net_raw: true };
        for (set, rights) in [
            ("000001ffffffffff", all),
            ("0000000000000000", Rights::default()),
            ("0000000000804000", Rights { sys_nice: true, ipc_lock: true, ..Rights::default() }),
            ("0000000000001000", Rights { net_admin: true, ..Rights::default() }),
            ("nonsense", Rights::default()),
        ] {
            assert_eq!(Rights::of(&status(set)), rights, "{set}");
        }
        assert_eq!(Rights::of(""), Rights::default());
    }
}
