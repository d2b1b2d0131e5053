//! Which machine and kernel this is: figures of another one say nothing here.

use serde::{Deserialize, Serialize};

/// A machine, as far as it decides what hops cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor, as the kernel names it.
    pub cpu: String,
    /// How many CPUs this process may use.
    pub cpus: u64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cpu: model(&info).unwrap_or(std::env::consts::ARCH).to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            kernel: kernel.trim().to_owned(),
        }
    }

    /// In a sentence.
    pub fn words(&self) -> String {
        format!("{} × {}, Linux {}", self.cpu, self.cpus, self.kernel)
    }
}

/// The name of the processor; not every architecture has one.
fn model(info: &str) -> Option<&str> {
    let values = info.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value));
    let of = |wanted: &str| values.clone().find(|(key, _)| *key == wanted).map(|(_, value)| value.trim());
    of("model name").or_else(|| of("Model")).or_else(|| of("CPU part")).filter(|model| !model.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_the_name_that_the_kernel_gives_it() {
        assert_eq!(model("processor\t: 0\nmodel name\t: Mill 9\n\nmodel name\t: Mill 9\n"), Some("Mill 9"));
        assert_eq!(model("CPU part\t: 0xd0c\n"), Some("0xd0c"));
        assert_eq!(model("nothing"), None);
        let here = Machine::here();
        assert!(here.cpus > 0 && !here.cpu.is_empty() && !here.kernel.is_empty(), "{here:?}");
    }
}
