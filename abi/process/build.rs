//! Builds the launcher, which the plugin carries inside itself: a static program without any library.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=launcher");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR")).join("tempos-exec");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args([
            "--crate-name",
            "tempos_exec",
            "--crate-type",
            "bin",
            "--edition",
            "2024",
            "--deny",
            "warnings",
        ])
        .args(["--target", &variable("TARGET")])
        .args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=s",
            "-C",
            "relocation-model=static",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "force-unwind-tables=no", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args(["-C", "link-args=-nostartfiles -nostdlib -static -Wl,--build-id=none -Wl,-z,noexecstack"])
        .arg("-o")
        .arg(&out)
        .arg("launcher/main.rs");
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    let built = rustc.status().expect("rustc runs");
    assert!(built.success(), "the launcher cannot be built: {rustc:?}");
}
