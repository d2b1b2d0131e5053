//! Compiled functions are found again, and damaged ones compiled again; instances are ready ahead; lines arrive.

use std::fs;

use super::*;

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map_or_else(|_| Vec::new(), |list| list.filter_map(Result::ok).map(|e| e.path()).collect())
}

#[test]
fn what_was_compiled_is_kept_by_engine_and_content_and_damage_is_compiled_again() {
    let folder = Folder::new("cached");
    let (file, cache) = (folder.probe(), folder.0.join("cache"));
    let wanted = Wanted::default().with("cache", text(&cache.display().to_string()));
    let echoes = |wanted: &Wanted, file: &Path| {
        assert_eq!(done(&wanted.prepare(file).expect("prepared"), b"echo").as_deref(), Some("echo"));
    };
    echoes(&wanted, &file);
    let first = entries(&cache);
    assert_eq!(first.len(), 1, "{first:?}");
    let written = fs::metadata(&first[0]).expect("there").created().ok();
    echoes(&wanted, &file);
    assert_eq!(entries(&cache), first, "nothing was compiled again");
    assert_eq!(fs::metadata(&first[0]).expect("there").created().ok(), written);
    echoes(&wanted.clone().with("fuel", OptionValue::Integer(1_000_000)), &file);
    assert_eq!(entries(&cache).len(), 2, "metered code is other code");
    echoes(&wanted, &folder.wat("packed", PACKED));
    assert_eq!(entries(&cache).len(), 3);
    for entry in entries(&cache) {
        let whole = fs::read(&entry).expect("there");
        fs::write(&entry, &whole[..whole.len() / 2]).expect("damaged");
    }
    echoes(&wanted, &file);
    // A folder that anybody may write to is not used, and that is no error.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).expect("set");
    echoes(&wanted, &file);
}

#[test]
fn what_is_called_warm_is_counted() {
    let folder = Folder::new("warm");
    let file = folder.probe();
    for instances in ["fresh", "reuse"] {
        let wanted = Wanted { warm: 2, ..Wanted::default() }.with("instances", text(instances));
        wanted.spec(&file, |spec| {
            let function = Wasm.prepare(spec).expect("prepared");
            assert_eq!(spec.counters.warm.get(), 2);
            assert!(spec.counters.started.get() >= 2);
            assert_eq!(function.warm(1000), 2, "no more than may run at once");
            assert_eq!(done(&function, b"echo").as_deref(), Some("echo"));
            assert_eq!(invoke(&function, b"t", 0).0, Outcome::CRASHED);
            assert_eq!(spec.counters.crashed.get(), 1);
            function.retire(0);
            assert_eq!(spec.counters.warm.get(), 0);
        });
    }
}

/// A module whose start takes long enough to be worth making ahead.
const SLOW_START: &str = r#"(module
  (import "tempos" "write" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $start (local $i i32)
    (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000000))))
    (i32.store8 (i32.const 16) (i32.const 82)))
  (start $start)
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "handle") (param i32 i32) (result i32) (call $write (i32.const 16) (i32.const 1))))"#;

#[test]
fn instances_with_a_heavy_start_are_made_ahead_of_events() {
    let folder = Folder::new("ahead");
    let file = folder.wat("slow", SLOW_START);
    let wanted = Wanted { warm: 1, ..Wanted::default() };
    wanted.spec(&file, |spec| {
        let function = Wasm.prepare(spec).expect("prepared");
        for _ in 0..3 {
            let patience = Instant::now() + Duration::from_secs(20);
            while spec.counters.warm.get() == 0 && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
            let started = spec.counters.started.get();
            assert_eq!(done(&function, b"x").as_deref(), Some("R"));
            assert!(spec.counters.warm.get() <= 1);
            assert!(spec.counters.started.get() >= started, "made by the keeper, if at all");
        }
    });
}
