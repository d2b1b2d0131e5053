//! What a function's file is: a program, or a source for an interpreter with a shim around it.

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A program.
    Native,
    /// A Python source with `def handle(event)`.
    Python,
    /// A JavaScript source that exports `handle`.
    JavaScript,
}

/// Where programs are looked for, where the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static PYTHON_SHIM: &str = include_str!("../shims/shim.py");
static JAVASCRIPT_SHIM: &str = include_str!("../shims/shim.js");

impl Runtime {
    /// By the word of the option `runtime`.
    ///
    /// # Errors
    /// One sentence without its subject.
    pub fn of(word: Option<&str>) -> Result<Self, String> {
        match word {
            None | Some("native") => Ok(Runtime::Native),
            Some("python") => Ok(Runtime::Python),
            Some("javascript") => Ok(Runtime::JavaScript),
            Some(other) => {
                Err(format!("runtime = {other:?} is neither \"native\" nor \"python\" nor \"javascript\""))
            }
        }
    }

    /// The name of its interpreter, and the package that has it; none for a program.
    pub const fn interpreter(self) -> Option<(&'static str, &'static str)> {
        match self {
            Runtime::Native => None,
            Runtime::Python => Some(("python3", "python3")),
            Runtime::JavaScript => Some(("node", "nodejs")),
        }
    }

    /// All arguments of the interpreter, its name first; or, for a program, of the program. `zygote`: a Python
    /// worker forks for each event.
    pub fn arguments(self, interpreter: &str, file: &str, args: &[String], zygote: bool) -> Vec<String> {
        let flags = match self {
            Runtime::Native => Vec::new(),
            Runtime::Python => {
                vec![interpreter, "-c", PYTHON_SHIM, if zygote { "zygote" } else { "warm" }]
            }
            Runtime::JavaScript => vec![interpreter, "-e", JAVASCRIPT_SHIM, "--"],
        };
        flags.into_iter().chain([file]).map(str::to_owned).chain(args.iter().cloned()).collect()
    }
}
