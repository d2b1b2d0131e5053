//! The function kits: for each language and method that go together, the files of a folder that builds, tests
//! and runs. The files themselves lie in `kits/`; what an author is to have beside them (a header, the crate for
//! functions) is a copy of the one in `abi/`.

use clap::ValueEnum;

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Rust
    Rust,
    /// C
    C,
    /// Python
    Python,
    /// JavaScript
    #[value(name = "javascript")]
    JavaScript,
    /// AssemblyScript
    #[value(name = "assemblyscript")]
    AssemblyScript,
}

/// An invocation method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// A shared library in the node
    Dlf,
    /// A WebAssembly module
    Wasm,
    /// A process
    Spawn,
}

/// A file of a kit: where it goes, and what is in it. `{{name}}` and the like are filled in, in both.
pub type File = (&'static str, &'static str);

/// What a kit needs, and what says where it comes from.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program of the PATH.
    Program(&'static str, &'static str),
    /// A target of the Rust toolchain.
    RustTarget(&'static str),
    /// A compiler from C to WebAssembly.
    WasmCompiler,
}

/// A kit.
#[derive(Debug)]
pub struct Kit {
    /// Its language.
    pub language: Language,
    /// Its method.
    pub method: Method,
    /// Its own files.
    pub files: &'static [File],
    /// The command that builds.
    pub build: &'static str,
    /// The command that tests.
    pub test: &'static str,
    /// What stands in `call = { … }`.
    pub call: &'static str,
    /// What must be installed.
    pub needs: &'static [Need],
}

/// What every kit has.
pub const COMMON: &[File] = &[
    ("README.md", include_str!("kits/README.md")),
    ("wiring.lua", include_str!("kits/wiring.lua")),
    (".gitignore", include_str!("kits/gitignore")),
];

const RUSTFMT: File = ("rustfmt.toml", include_str!("kits/rustfmt.toml"));
const CC: Need = Need::Program("cc", "apt-get install gcc libc6-dev");
const MAKE: Need = Need::Program("make", "apt-get install make");
const CARGO: Need = Need::Program("cargo", "https://rustup.rs");

macro_rules! abi {
    ($file:literal) => {
        include_str!(concat!("../../../../abi/", $file))
    };
}

/// Every kit.
pub const KITS: &[Kit] = &[
    Kit {
        language: Language::Rust,
        method: Method::Dlf,
        files: &[
            ("Cargo.toml", include_str!("kits/rust-dlf/Cargo.toml")),
            RUSTFMT,
            ("src/lib.rs", include_str!("kits/rust-dlf/lib.rs")),
            ("tempos-function/Cargo.toml", include_str!("kits/rust-dlf/tempos-function.toml")),
            ("tempos-function/src/lib.rs", abi!("function/src/lib.rs")),
            ("tempos-function/src/event.rs", abi!("function/src/event.rs")),
            ("tempos-function/src/export.rs", abi!("function/src/export.rs")),
            ("tempos-function/src/output.rs", abi!("function/src/output.rs")),
            ("tempos-function/src/raw.rs", abi!("function/src/raw.rs")),
        ],
        build: "cargo build --release",
        test: "cargo test",
        call: "method = \"dlf\", file = \"target/release/lib{{ident}}.so\"",
        needs: &[CARGO],
    },
    Kit {
        language: Language::Rust,
        method: Method::Wasm,
        files: &[
            ("Cargo.toml", include_str!("kits/rust-wasm/Cargo.toml")),
            RUSTFMT,
            ("src/lib.rs", include_str!("kits/rust-wasm/lib.rs")),
            ("src/door.rs", include_str!("kits/rust-wasm/door.rs")),
        ],
        build: "cargo build --release --target wasm32-unknown-unknown",
        test: "cargo test",
        call: "method = \"wasm\", file = \"target/wasm32-unknown-unknown/release/{{ident}}.wasm\"",
        needs: &[CARGO, Need::RustTarget("wasm32-unknown-unknown")],
    },
    Kit {
        language: Language::Rust,
        method: Method::Spawn,
        files: &[
            ("Cargo.toml", include_str!("kits/rust-spawn/Cargo.toml")),
            RUSTFMT,
            ("src/main.rs", include_str!("kits/rust-spawn/main.rs")),
        ],
        build: "cargo build --release",
        test: "cargo test",
        call: "method = \"spawn\", file = \"target/release/{{name}}\"",
        needs: &[CARGO],
    },
    Kit {
        language: Language::C,
        method: Method::Dlf,
        files: &[
            ("{{ident}}.c", include_str!("kits/c-dlf/function.c")),
            ("test.c", include_str!("kits/c-dlf/test.c")),
            ("Makefile", include_str!("kits/c-dlf/Makefile")),
            ("tempos_function.h", abi!("include/tempos_function.h")),
        ],
        build: "make",
        test: "make test",
        call: "method = \"dlf\", file = \"{{name}}.so\"",
        needs: &[CC, MAKE],
    },
    Kit {
        language: Language::C,
        method: Method::Wasm,
        files: &[
            ("{{ident}}.c", include_str!("kits/c-wasm/function.c")),
            ("test.c", include_str!("kits/c-wasm/test.c")),
            ("Makefile", include_str!("kits/c-wasm/Makefile")),
            ("tempos_wasm.h", include_str!("kits/c-wasm/tempos_wasm.h")),
        ],
        build: "make",
        test: "make test",
        call: "method = \"wasm\", file = \"{{name}}.wasm\"",
        needs: &[CC, MAKE, Need::WasmCompiler],
    },
    Kit {
        language: Language::C,
        method: Method::Spawn,
        files: &[
            ("{{ident}}.c", include_str!("kits/c-spawn/function.c")),
            ("Makefile", include_str!("kits/c-spawn/Makefile")),
        ],
        build: "make",
        test: "make test",
        call: "method = \"spawn\", file = \"{{name}}\"",
        needs: &[CC, MAKE],
    },
    Kit {
        language: Language::Python,
        method: Method::Spawn,
        files: &[
            ("{{ident}}.py", include_str!("kits/python-spawn/function.py")),
            ("test_{{ident}}.py", include_str!("kits/python-spawn/test.py")),
            ("Makefile", include_str!("kits/python-spawn/Makefile")),
        ],
        build: "make",
        test: "make test",
        call: "method = \"spawn\", file = \"{{ident}}.py\", runtime = \"python\", mode = \"warm\"",
        needs: &[Need::Program("python3", "apt-get install python3"), MAKE],
    },
    Kit {
        language: Language::JavaScript,
        method: Method::Spawn,
        files: &[
            ("{{ident}}.js", include_str!("kits/javascript-spawn/function.js")),
            ("test.js", include_str!("kits/javascript-spawn/test.js")),
            ("Makefile", include_str!("kits/javascript-spawn/Makefile")),
        ],
        build: "make",
        test: "make test",
        call: "method = \"spawn\", file = \"{{ident}}.js\", runtime = \"javascript\", mode = \"warm\"",
        needs: &[Need::Program("node", "apt-get install nodejs"), MAKE],
    },
    Kit {
        language: Language::AssemblyScript,
        method: Method::Wasm,
        files: &[
            ("{{ident}}.ts", include_str!("kits/assemblyscript-wasm/function.ts")),
            ("package.json", include_str!("kits/assemblyscript-wasm/package.json")),
            ("test.js", include_str!("kits/assemblyscript-wasm/test.js")),
        ],
        build: "npm install && npm run build",
        test: "npm test",
        call: "method = \"wasm\", file = \"{{name}}.wasm\"",
        needs: &[Need::Program("npm", "apt-get install nodejs npm")],
    },
];
