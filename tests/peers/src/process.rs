//! A process that the bench started, and ends.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{self, FORWARDER_PRIORITY, Layout};

/// The process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program. `pinned`: on the forwarders' CPU, and with the forwarders' priority where that is
    /// granted, as every other forwarder of the bench.
    pub fn start(command: &mut Command, log: &Path, pinned: Option<&Layout>) -> io::Result<Process> {
        let log = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(layout) = pinned {
            let (cpu, real_time) = (layout.forwarder_cpu, layout.real_time);
            // SAFETY: only system calls that may be made between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    machine::pin(cpu)?;
                    if real_time {
                        // Its threads are to inherit the policy.
                        let parameter = libc::sched_param { sched_priority: FORWARDER_PRIORITY };
                        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter);
                    }
                    Ok(())
                });
            }
        }
        Ok(Process { child: command.spawn()? })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` says so.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) -> io::Result<()> {
        let patience = Instant::now() + Duration::from_secs(20);
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{what} ended: {status}")));
            }
            if Instant::now() > patience {
                return Err(io::Error::other(format!("{what} did not become ready")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of this machine that is free now.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
