//! Every kind of bad file gets one sentence, and the process that hosts the plugins is unharmed.

#![allow(clippy::unwrap_used)] // A test that cannot go on fails there.

mod plugin_kit;

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use plugin_kit::{
    Bench, Folder, assert_callable, behaving, fixtures, plugin, probe_program, replaced, set_mode, started,
};
use tempos_engine::plugin::{PluginKind, Registry};

/// Whatever was refused before: a good plugin still loads, and its code runs.
fn assert_serving(bench: &mut Bench) {
    let good = started(bench.load("good.so", &plugin("10.20.30")));
    assert_callable(&good);
    assert_eq!(bench.state("fixture").state, "started");
}

#[test]
fn bytes_that_are_no_plugin() {
    let mut bench = Bench::new();
    let whole = plugin("10.20.30");
    let section_table = usize::try_from(u64::from_le_bytes(whole[40..48].try_into().unwrap())).unwrap();
    let at = |place: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[place..place + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let manifest = |from: &str, to: &str| replaced(&whole, from, to);
    let cut = "it is cut off or damaged: it has";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty.so", Vec::new(), "the file is empty"),
        (
            "text.so",
            b"#!/bin/sh\necho\n".to_vec(),
            r##"it is not an ELF file: it begins with "#!/bin/sh\necho\n""##,
        ),
        ("stub.so", whole[..20].to_vec(), cut),
        ("cut-20k.so", whole[..20_000].to_vec(), cut),
        ("cut-half.so", whole[..whole.len() / 2].to_vec(), cut),
        ("cut-99.so", whole[..whole.len() / 100 * 99].to_vec(), cut),
        ("cut-sections.so", whole[..section_table].to_vec(), cut),
        ("cut-by-one.so", whole[..whole.len() - 1].to_vec(), cut),
        ("machine.so", at(18, &[0x28, 0]), "it was built for ARM (32 bit), this machine is"),
        ("class.so", at(4, &[1]), "it is a 32-bit little-endian ELF file; this host loads 64-bit"),
        ("relocatable.so", at(16, &[1]), "it is an object file"),
        ("executable.so", at(16, &[2]), "it is an executable, not a shared library"),
        ("program.so", fs::read(probe_program()).unwrap(), "it is an executable, not a shared library"),
        (
            "abi-2.so",
            manifest(r#""abi":"1.1""#, r#""abi":"2.0""#),
            "plugin fixture was built for ABI 2.0, this host speaks 1.",
        ),
        (
            "abi-newer.so",
            manifest(r#""abi":"1.1"} "#, r#""abi":"1.99"}"#),
            "plugin fixture was built for ABI 1.99, this host speaks up to 1.",
        ),
        (
            "damaged.so",
            manifest(r#"{"name":"fixture""#, r#"["name":"fixture""#),
            "its manifest is not a JSON object",
        ),
        (
            "renamed.so",
            manifest(r#"{"name":"fixture""#, r#"{"name":"mixture""#),
            "its manifest says queue policy mixture 10.20.30, its descriptor says queue policy fixture",
        ),
        (
            "other-kind.so",
            manifest(r#""queue","abi":"1.1"}  "#, r#""adapter","abi":"1.1"}"#),
            "its manifest says adapter fixture 10.20.30, its descriptor says queue policy",
        ),
        (
            "no-symbol.so",
            manifest("_1as_0lib_1header_0root_bmodule_bloader", "_2as_0lib_1header_0root_bmodule_bloader"),
            "it has a manifest but exports no TEMPOS root module",
        ),
    ];
    for (name, bytes, expected) in cases {
        let sentence = bench.refused(name, &bytes);
        assert!(sentence.contains(expected), "{name}: {sentence}");
        let state = bench.state(name_shown(&bench, name));
        assert_eq!((state.state, state.reason.as_str()), ("failed", sentence.as_str()), "{name}");
    }
    assert_serving(&mut bench);
}

/// A refused file is shown by its plugin's name where its manifest could be read, else by its own.
fn name_shown(bench: &Bench, file: &str) -> &'static str {
    let states = bench.registry.states();
    let state = states.iter().find(|state| state.path.ends_with(file)).expect("it is shown");
    state.name.clone().leak()
}

#[test]
fn an_ordinary_shared_library() {
    let mut bench = Bench::new();
    let folder = Folder::new();
    let library = folder.0.join("ordinary.so");
    let made =
        Command::new("cc").args(["-shared", "-x", "c", "/dev/null", "-o"]).arg(&library).status().unwrap();
    assert!(made.success());
    let sentence = bench.refused("ordinary.so", &fs::read(library).unwrap());
    assert!(
        sentence.contains("it is an ordinary shared library without the section .tempos.plugin"),
        "{sentence}"
    );
    assert_serving(&mut bench);
}

#[test]
fn code_that_misbehaves_before_it_can_be_checked() {
    let mut bench = Bench::new();
    for (behaviour, expected) in [
        ("abort", "its constructor died by signal 6 (abort)"),
        ("segv", "its constructor died by signal 11 (segmentation fault)"),
        ("bus", "its constructor died by signal 7 (bus error)"),
        ("exit", "its constructor ended the process with exit code 3"),
        ("panic", "its constructor panicked: planted panic"),
        ("flood", "its constructor died by signal 6 (abort)"),
        ("factory-panic", "its factory panicked: planted factory panic"),
        ("factory-error", "its factory failed: there is no more paper"),
    ] {
        let sentence = bench.refused("bad.so", &behaving(behaviour));
        assert!(sentence.ends_with(expected), "{behaviour}: {sentence}");
        assert_eq!(bench.state("fixture").state, "failed", "{behaviour}");
    }
    assert_serving(&mut bench);
    let left: Vec<_> = staged(&bench);
    assert_eq!(left.len(), 1, "copies of refused files are removed: {left:?}");
}

fn staged(bench: &Bench) -> Vec<String> {
    let names = fs::read_dir(&bench.stage).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".so")).collect()
}

#[test]
fn what_a_plugin_prints_is_passed_over() {
    let mut bench = Bench::new();
    let noisy = started(bench.load("noisy.so", &behaving("noisy")));
    assert_callable(&noisy);
}

#[test]
fn a_library_that_is_missing_something() {
    let mut bench = Bench::new();
    let folder = Folder::new();
    let (source, library) = (folder.0.join("lacking.c"), folder.0.join("lacking.so"));
    let text = r#"
        __attribute__((section(".tempos.plugin"), used)) static const char manifest[] =
            "{\"name\":\"lacking\",\"version\":\"1.0.0\",\"kind\":\"queue\",\"abi\":\"1.0\"}";
        extern void nowhere_to_be_found(void);
        void (*const _1as_0lib_1header_0root_bmodule_bloader)(void) = nowhere_to_be_found;
    "#;
    fs::write(&source, text).unwrap();
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(made.success());
    let sentence = bench.refused("lacking.so", &fs::read(&library).unwrap());
    let expected = "the dynamic loader refuses it: undefined symbol: nowhere_to_be_found";
    assert!(sentence.ends_with(expected), "{sentence}");
    assert_serving(&mut bench);
}

#[test]
fn a_probe_that_cannot_be_run() {
    let root = Folder::new();
    let lines = Default::default();
    let mut config = plugin_kit::config(&root.0, &root.0.join("stage"), Duration::from_secs(60));
    let path = root.0.join("good.so");
    fs::write(&path, plugin("10.20.30")).unwrap();
    set_mode(&path, 0o644);
    for (command, expected) in [
        (vec!["/no/such/program".into()], "the probe \"/no/such/program\" cannot be started: No such file"),
        (vec!["false".into()], "the probe ended the process with exit code 1"),
        (vec!["true".into()], "the probe ended the process with exit code 0"),
        (Vec::new(), "no command is set for the probe"),
    ] {
        config.probe_command = Some(command);
        let mut registry = Registry::new(config.clone(), plugin_kit::log_into(&lines)).unwrap();
        let refusal = registry.load_file(&path, false).expect_err("no probe, no load");
        assert!(refusal.message.contains(expected), "{refusal}");
    }
    // Where no probe is wanted, none is needed.
    config.probe_command = None;
    let mut registry = Registry::new(config, plugin_kit::log_into(&lines)).unwrap();
    assert_callable(&started(registry.load_file(&path, false).unwrap()));
}

#[test]
fn what_a_constructor_started_ends_with_its_probe() {
    let mut bench = Bench::new();
    let sentence = bench.refused("orphan.so", &behaving("orphan"));
    assert!(sentence.ends_with("its constructor died by signal 6 (abort)"), "{sentence}");
    let sleeps = |process: &fs::DirEntry| {
        fs::read(process.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0086397\0")
    };
    let given_up = Instant::now() + Duration::from_secs(60);
    while fs::read_dir("/proc").unwrap().flatten().any(|process| sleeps(&process)) {
        assert!(Instant::now() < given_up, "the child that the constructor started goes on");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_constructor_that_never_returns() {
    let mut bench = Bench::with_timeout(Duration::from_secs(3));
    let sentence = bench.refused("hang.so", &behaving("hang"));
    assert!(sentence.ends_with("its constructor did not return within 3.00 s"), "{sentence}");
    let mut patient = Bench::new();
    assert_serving(&mut patient);
}

#[test]
fn another_layout_is_told_in_a_sentence_and_kept_in_a_file() {
    let mut bench = Bench::new();
    let sentence = bench.refused("otherlay.so", &fixtures().other_layout);
    assert!(sentence.contains("its types have another layout than this host's"), "{sentence}");
    let report = bench.stage.join("otherlay.so.txt");
    assert!(sentence.ends_with(&format!("the whole report is in {report:?}")), "{sentence}");
    assert!(fs::read_to_string(report).unwrap().lines().count() > 10);
    assert_eq!(bench.state("otherlay").kind, "queue policy");
    assert_serving(&mut bench);
}

#[test]
fn files_that_others_can_write() {
    let mut bench = Bench::new();
    let path = bench.put("shared.so", &plugin("10.20.30"));
    for (mode, who) in [(0o666, "everyone (mode 0666)"), (0o664, "its group (mode 0664)")] {
        set_mode(&path, mode);
        let sentence = bench.refused_path(&path);
        assert!(
            sentence.contains(&format!("can be written by {who}; run: chmod go-w {path:?}")),
            "{sentence}"
        );
    }
    set_mode(&path, 0o644);
    for mode in [0o775, 0o777, 0o1777] {
        set_mode(&bench.drop_in, mode);
        let sentence = bench.refused_path(&path);
        assert!(
            sentence.contains(&format!("its folder {:?} can be written by", bench.drop_in)),
            "{sentence}"
        );
    }
    set_mode(&bench.drop_in, 0o755);
    started(bench.registry.load_file(&path, false).unwrap());
}

#[test]
fn files_of_other_users() {
    // SAFETY: geteuid(2) has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return; // Only root can give files away.
    }
    let mut bench = Bench::new();
    let path = bench.put("theirs.so", &plugin("10.20.30"));
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    let sentence = bench.refused_path(&path);
    assert!(sentence.contains("belongs to user 12345; it must belong to root"), "{sentence}");
}

#[test]
fn things_that_are_no_regular_files() {
    let mut bench = Bench::new();
    let outside = Folder::new();
    let target = outside.0.join("outside.so");
    fs::write(&target, plugin("10.20.30")).unwrap();
    set_mode(&target, 0o644);

    let link = bench.drop_in.join("link.so");
    symlink(&target, &link).unwrap();
    let sentence = bench.refused_path(&link);
    assert!(sentence.contains("it is a symbolic link out of its folder, to"), "{sentence}");

    let dangling = bench.drop_in.join("dangling.so");
    symlink("nowhere.so", &dangling).unwrap();
    assert!(bench.refused_path(&dangling).contains("it is a symbolic link that leads nowhere"));

    let folder = bench.drop_in.join("folder.so");
    fs::create_dir(&folder).unwrap();
    assert!(bench.refused_path(&folder).ends_with("it is a directory, not a regular file"));

    let fifo = bench.drop_in.join("fifo.so");
    let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o644) }, 0);
    assert!(bench.refused_path(&fifo).ends_with("it is a FIFO, not a regular file"));

    assert!(bench.refused_path(Path::new("/no/such/folder/x.so")).contains("cannot be read: No such file"));

    // A link inside the folder is a name like any other.
    let real = bench.put("fixture-10.so", &plugin("10.20.30"));
    let current = bench.drop_in.join("current.so");
    symlink(real.file_name().unwrap(), &current).unwrap();
    started(bench.registry.load_file(&current, false).unwrap());
}

#[test]
fn a_good_plugin_is_what_it_says() {
    let mut bench = Bench::new();
    let plugin = started(bench.load("good.so", &plugin("10.20.30")));
    let info = &plugin.info;
    assert_eq!(
        (info.name.as_str(), info.version.as_str(), info.kind),
        ("fixture", "10.20.30", PluginKind::QUEUE)
    );
    assert!(plugin.adapter().is_none() && plugin.invocation_method().is_none());
    assert_callable(&plugin);
    let state = bench.state("fixture");
    assert_eq!(
        state.options,
        [
            "mode: one of calm, eager, default calm — How it feels.",
            "bind: a text, required — The address to receive at.",
        ]
    );
    assert_eq!((state.generations, state.sha256.len()), (1, 64));
    assert!(state.resident_kib > 0);
}
