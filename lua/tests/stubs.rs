//! Editor stubs and manual say what the table of keys says.
//!
//! `TEMPOS_BLESS=1 cargo test -p tempos-lua --test stubs` writes them anew.

use std::fs;
use std::path::Path;

use tempos_control::schema::CONSTRUCTORS;
use tempos_lua::{manual, stubs};

const BEGIN: &str = "<!-- constructors: written by tests/stubs.rs -->\n";
const END: &str = "<!-- end of constructors -->\n";

fn bless() -> bool {
    std::env::var_os("TEMPOS_BLESS").is_some()
}

#[test]
fn the_checked_in_stubs_are_those_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tempos.d.lua");
    if bless() {
        fs::write(&path, stubs()).expect("the stubs are written");
    }
    let stored = fs::read_to_string(&path).expect("tempos.d.lua is there");
    assert_eq!(stored, stubs(), "run TEMPOS_BLESS=1 cargo test -p tempos-lua --test stubs");
}

#[test]
fn the_readme_lists_every_constructor() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md is there");
    let (before, rest) = readme.split_once(BEGIN).expect("the begin mark");
    let (listed, after) = rest.split_once(END).expect("the end mark");
    if bless() {
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", manual())).expect("the README is written");
        return;
    }
    assert_eq!(listed, manual(), "run TEMPOS_BLESS=1 cargo test -p tempos-lua --test stubs");
}

#[test]
fn the_stubs_are_lua_and_name_every_key() {
    let stubs = stubs();
    let lua = mlua::Lua::new();
    lua.load(&stubs).into_function().expect("the stubs are valid Lua");
    for constructor in CONSTRUCTORS {
        for key in constructor.keys {
            let plain = format!("---@field {} ", key.name);
            let optional = format!("---@field {}? ", key.name);
            assert!(stubs.contains(&plain) || stubs.contains(&optional), "{}.{}", constructor.name, key.name);
        }
    }
}

#[test]
fn every_function_of_the_stubs_is_there() {
    let names: Vec<String> = stubs()
        .lines()
        .filter_map(|line| line.strip_prefix("function tempos.")?.split('(').next().map(str::to_owned))
        .collect();
    assert!(names.len() >= 9, "{names:?}");
    let script: String =
        names.iter().map(|name| format!("assert(type(tempos.{name}) == 'function')\n")).collect();
    let source = tempos_lua::Source::Text { chunk_name: "stubs".into(), lua: script };
    let known = tempos_lua::Known {
        adapters: ["udp", "unix", "tcp", "shm"].map(String::from).into(),
        ..Default::default()
    };
    let outcome = tempos_lua::evaluate(&source, &known, &tempos_lua::Limits::default());
    assert_eq!(outcome, Ok(Vec::new()));
}
