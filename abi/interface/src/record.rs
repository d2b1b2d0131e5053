//! What was there before, as a small file that outlives the process: written as a whole before anything is changed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::thing::{THINGS, Thing};
use crate::threads::Thread;

const PREFIX: &str = "interface-";
const SUFFIX: &str = ".was";
/// The largest record that is looked at.
const BYTES_MAX: u64 = 64 << 10;

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The interface's name.
    pub interface: String,
    /// Its number: another of that name is another interface.
    pub index: u32,
    /// The boot that it belongs to: after another nothing is left to be put back.
    pub boot: String,
    /// Things that are changed, as they were.
    pub things: Vec<(Thing, Vec<u64>)>,
    /// Threads that were there, as they were.
    pub threads: Vec<Thread>,
}

/// This boot's identity.
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Where the record of an interface lies.
pub fn path(folder: &Path, interface: &str) -> PathBuf {
    folder.join(format!("{PREFIX}{interface}{SUFFIX}"))
}

/// The records in a folder.
pub fn all(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    paths.sort();
    paths
}

impl Record {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let coming = path.with_extension("coming");
        let mut file = File::create(&coming)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&coming, path)
    }

    /// Reads one.
    ///
    /// # Errors
    /// What the system says, or that it is no record.
    pub fn load(path: &Path) -> io::Result<Record> {
        if fs::metadata(path)?.len() > BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Record::parse(&fs::read_to_string(path)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn text(&self) -> String {
        let numbers = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        let mut text = format!("interface {} {}\nboot {}\n", self.interface, self.index, self.boot);
        for (thing, values) in &self.things {
            text.push_str(&format!("{} {}\n", thing.word(), numbers(values)));
        }
        for Thread { pid, policy, priority } in &self.threads {
            text.push_str(&format!("thread {pid} {policy} {priority}\n"));
        }
        text.push_str("end\n");
        text
    }

    fn parse(text: &str) -> Option<Record> {
        let mut record = Record::default();
        let mut lines = text.lines();
        loop {
            let mut words = lines.next()?.split(' ');
            match words.next()? {
                "end" => break,
                "interface" => {
                    record.interface = words.next()?.to_owned();
                    record.index = words.next()?.parse().ok()?;
                }
                "boot" => record.boot = words.next()?.to_owned(),
                "thread" => {
                    let mut number = || words.next()?.parse().ok();
                    record.threads.push(Thread { pid: number()?, policy: number()?, priority: number()? });
                }
                word => {
                    let thing = THINGS.into_iter().find(|thing| thing.word() == word)?;
                    record.things.push((thing, words.map(|word| word.parse().ok()).collect::<Option<_>>()?));
                }
            }
        }
        let name = &record.interface;
        (!name.is_empty() && name.len() < libc::IFNAMSIZ && !name.contains('/')).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read_and_half_of_it_is_none() {
        let record = Record {
            interface: String::from("eth0"),
            index: 7,
            boot: String::from("b"),
            things: vec![(Thing::Coalescing, vec![3, 0, u64::MAX]), (Thing::Gro, vec![1])],
            threads: vec![Thread { pid: 12, policy: 1, priority: 48 }],
        };
        let text = record.text();
        assert_eq!(Record::parse(&text), Some(record));
        for length in 0..text.len() - 1 {
            assert_eq!(Record::parse(&text[..length]), None, "{length} bytes");
        }
        for garbage in
            ["end\n", "interface ../x 1\nend\n", "interface a b\nend\n", "what 1\nend\n", "gro x\nend\n"]
        {
            assert_eq!(Record::parse(garbage), None, "{garbage:?}");
        }
    }
}
