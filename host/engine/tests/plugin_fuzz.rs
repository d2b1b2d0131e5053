//! Garbage at the plugins' door, from a fixed seed: the gates never panic and always answer in one line.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod plugin_kit;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plugin_kit::{Folder, assert_sentence, plugin, probe_program};
use tempos_engine::plugin::inspect::inspect;
use tempos_engine::plugin::probe::probe;

/// xorshift64*: enough for bytes, the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below.max(1)
    }

    /// Numbers that tables trip over, and any others.
    fn number(&mut self) -> u64 {
        const EDGES: [u64; 8] = [0, 1, 63, 64, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX];
        match self.roll(3) {
            0 => EDGES[self.roll(EDGES.len())],
            1 => self.roll(1 << 16) as u64,
            _ => ((self.roll(1 << 31) as u64) << 32) | self.roll(1 << 31) as u64,
        }
    }
}

/// A file of a few KiB that passes every check: what the real ones look like from outside.
fn small_plugin(folder: &Path) -> Vec<u8> {
    let source = r#"
        __attribute__((section(".tempos.plugin"), used)) static const char manifest[256] =
            "{\"name\":\"small\",\"version\":\"1.0.0\",\"kind\":\"queue\",\"abi\":\"1.0\"}";
        const void *const _1as_0lib_1header_0root_bmodule_bloader = manifest;
    "#;
    let (text, library) = (folder.join("small.c"), folder.join("small.so"));
    fs::write(&text, source).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-nostdlib", "-o"])
        .args([&library, &text])
        .status()
        .unwrap();
    assert!(made.success());
    fs::read(library).unwrap()
}

/// Where the file's own tables say that its tables are: hits there reach deeper than hits anywhere.
fn tables(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let offset = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (segments, sections) = (offset(32), offset(40));
    vec![0..64, segments..segments + 56 * 8, sections..bytes.len(), 0..bytes.len()]
}

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, tables: &[std::ops::Range<usize>]) {
    for _ in 0..=dice.roll(4) {
        let table = &tables[dice.roll(tables.len())];
        let at = table.start + dice.roll(table.len());
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            2 if at < bytes.len() => bytes[at] = dice.number() as u8,
            3 if at + 8 <= bytes.len() => {
                let at = at & !7;
                bytes[at..at + 8].copy_from_slice(&dice.number().to_le_bytes());
            }
            4 if at + 4 <= bytes.len() => {
                let at = at & !3;
                bytes[at..at + 4].copy_from_slice(&(dice.number() as u32).to_le_bytes());
            }
            _ => {
                let from = dice.roll(bytes.len());
                let size = dice.roll(64).min(bytes.len() - from).min(bytes.len().saturating_sub(at));
                if size > 0 {
                    bytes.copy_within(from..from + size, at);
                }
            }
        }
    }
}

#[test]
fn inspect_survives_a_hundred_thousand_files() {
    let folder = Folder::new();
    let good = small_plugin(&folder.0);
    assert_eq!(inspect(&good).map(|manifest| manifest.name), Ok(String::from("small")));
    let tables = tables(&good);
    let mut dice = Dice(0x5EED_0F7E_4905);
    let (mut passed, mut refused) = (0, 0);
    for round in 0..120_000 {
        let mut bytes = good.clone();
        if round % 10 == 0 {
            bytes = (0..dice.roll(512)).map(|_| dice.number() as u8).collect();
            if round % 20 == 0 {
                bytes.splice(..bytes.len().min(7), *b"\x7fELF\x02\x01\x01");
            }
        } else {
            mutate(&mut dice, &mut bytes, &tables);
        }
        match catch_unwind(|| inspect(&bytes)) {
            Ok(Ok(_)) => passed += 1,
            Ok(Err(sentence)) => {
                assert_sentence(&sentence);
                refused += 1;
            }
            Err(_) => panic!("inspect panicked in round {round} on {} bytes", bytes.len()),
        }
    }
    // Both sides of the gate were reached, or the test shows nothing.
    assert!(passed > 1_000 && refused > 50_000, "{passed} passed, {refused} refused");
}

#[test]
fn a_probe_of_damaged_code_costs_a_child_only() {
    let folder = Folder::new();
    let good = plugin("10.20.30");
    let manifest = inspect(&good).unwrap();
    let command = [probe_program().into_os_string()];
    let mut dice = Dice(0xDA4A_6ED0_C0DE);
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..60 {
        let mut bytes = good.clone();
        for _ in 0..=dice.roll(400) {
            let at = dice.roll(bytes.len());
            bytes[at] = dice.number() as u8;
        }
        if inspect(&bytes).is_err() {
            continue;
        }
        let staged = folder.0.join(format!("{round}.so"));
        fs::write(&staged, bytes).unwrap();
        match probe(&command, Duration::from_secs(5), &staged, &manifest) {
            Ok(()) => loaded += 1,
            Err(failure) => {
                assert_sentence(&failure.sentence);
                refused += 1;
            }
        }
    }
    assert!(loaded + refused > 20 && refused > 0, "{loaded} loaded, {refused} refused");
}
