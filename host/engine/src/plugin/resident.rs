//! How much memory loaded plugin files take: proc_pid_smaps(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// More of smaps than any node has: the reading ends there.
const SMAPS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Resident KiB of each mapped file below `folder`; empty where smaps cannot be read.
pub(crate) fn below(folder: &Path) -> BTreeMap<PathBuf, u64> {
    File::open("/proc/self/smaps")
        .map(|file| sum(BufReader::new(file.take(SMAPS_BYTES_MAX)), folder))
        .unwrap_or_default()
}

fn sum(lines: impl BufRead, folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut sizes = BTreeMap::new();
    let mut mapped: Option<PathBuf> = None;
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if let Some(kib) = line.strip_prefix("Rss:") {
            let kib = kib.trim().trim_end_matches("kB").trim_end().parse::<u64>().unwrap_or(0);
            if let Some(path) = &mapped {
                *sizes.entry(path.clone()).or_insert(0) += kib;
            }
        } else if line.as_bytes().first().is_some_and(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            // "7f…-7f… r-xp 0001000 fe:00 1234   /path"
            mapped =
                line.find('/').map(|at| PathBuf::from(&line[at..])).filter(|path| path.starts_with(folder));
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mappings_of_one_file_are_summed() {
        let smaps = "7f00-7f01 r--p 00000000 fe:00 12                  /run/t/a.so\nSize: 4 kB\nRss:   4 kB\n\
                     7f01-7f02 r-xp 00001000 fe:00 12                  /run/t/a.so\nRss:  12 kB\n\
                     7f02-7f03 rw-p 00000000 00:00 0 \nRss:  99 kB\n\
                     7f03-7f04 r-xp 00000000 fe:00 13                  /lib/b.so\nRss:  50 kB\n";
        let sizes = sum(smaps.as_bytes(), Path::new("/run/t"));
        assert_eq!(sizes, BTreeMap::from([(PathBuf::from("/run/t/a.so"), 16)]));
    }
}
