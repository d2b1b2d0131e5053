//! Gives the plugin's file an entry point, so that it can also run as a program: the process that functions
//! with `isolation = "process"` live in (src/isolation/entry.rs).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-e,tempos_dlf_entry");
}
