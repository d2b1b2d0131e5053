//! The binary's own malloc must be found by the plugins that it loads: its symbols are exported.

fn main() {
    println!("cargo:rustc-link-arg-bins=-rdynamic");
    println!("cargo:rerun-if-changed=build.rs");
}
