//! `new`: writes the folder of a function that builds, tests and runs with the commands that are printed. It
//! needs no node.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use serde_json::json;

use crate::args::NewFunction;
use crate::exit::{DATA, Failing, USAGE};
use crate::kit::{COMMON, KITS, Kit, Language, Method, Need};
use crate::output::Output;

/// The longest name of a function.
const NAME_BYTES_MAX: usize = 64;

/// `new function`
pub fn function(args: &NewFunction, output: &mut Output) -> Result<u8, Failing> {
    let kit = kit(args.lang, args.method)?;
    let (folder, name) = folder(&args.name)?;
    let filled = Filled::new(kit, name);
    let files: Vec<(PathBuf, String)> = COMMON
        .iter()
        .chain(kit.files)
        .map(|(path, text)| (folder.join(filled.fill(path)), filled.fill(text)))
        .collect();
    write(&folder, &files)?;
    let missing: Vec<String> = kit.needs.iter().filter_map(missing).collect();
    report(&folder, &filled, &files, &missing, output)?;
    Ok(0)
}

/// The kit of a language and a method; the language's first one where none is given.
fn kit(language: Language, method: Option<Method>) -> Result<&'static Kit, Failing> {
    let of_language = || KITS.iter().filter(|kit| kit.language == language);
    let found = of_language().find(|kit| method.is_none_or(|method| kit.method == method));
    found.ok_or_else(|| {
        let possible: Vec<String> = of_language().map(|kit| word(&kit.method)).collect();
        let wanted = method.as_ref().map(word).unwrap_or_default();
        let sentence = format!(
            "a function in {} cannot run by {wanted}; possible: --method {}",
            title(&language),
            possible.join(" or --method ")
        );
        Failing::new(USAGE, sentence)
    })
}

/// The folder, and the function's name, which is the last part of its path.
fn folder(path: &Path) -> Result<(PathBuf, &str), Failing> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !begins || !plain || name.len() > NAME_BYTES_MAX {
        let sentence = format!(
            "{name:?} is not the name of a function: write a letter and then a-z, 0-9 and -, such as count-words"
        );
        return Err(Failing::new(USAGE, sentence));
    }
    if ["test", "core", "std", "alloc", "tempos-function"].contains(&name) {
        return Err(Failing::new(
            USAGE,
            format!("{name:?} is a name that the kit itself uses; choose another"),
        ));
    }
    Ok((path.to_owned(), name))
}

/// What stands for the words in double braces.
struct Filled<'a> {
    kit: &'static Kit,
    words: [(&'static str, String); 5],
    name: &'a str,
}

impl<'a> Filled<'a> {
    fn new(kit: &'static Kit, name: &'a str) -> Self {
        let words = [
            ("{{language}}", title(&kit.language)),
            ("{{method}}", word(&kit.method)),
            ("{{build}}", kit.build.to_owned()),
            ("{{test}}", kit.test.to_owned()),
            ("{{call}}", kit.call.to_owned()),
        ];
        Filled { kit, words, name }
    }

    fn fill(&self, text: &str) -> String {
        let text = self.words.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        // After the others, which hold it.
        text.replace("{{name}}", self.name).replace("{{ident}}", &self.name.replace('-', "_"))
    }
}

/// Writes the files into a folder that is new or empty; where one cannot be written, what was written goes.
fn write(folder: &Path, files: &[(PathBuf, String)]) -> Result<(), Failing> {
    let failing = |path: &Path, error: std::io::Error| {
        let failing = Failing::from(error);
        Failing { sentence: format!("{}: {}", path.display(), failing.sentence), ..failing }
    };
    let made = match fs::create_dir(folder) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(folder).map_err(|error| failing(folder, error))?;
            if entries.next().is_some() {
                let sentence =
                    format!("{}: there is something in it already; name a new folder", folder.display());
                return Err(Failing::new(DATA, sentence));
            }
            false
        }
        Err(error) => return Err(failing(folder, error)),
    };
    for (path, text) in files {
        let parent = path.parent().unwrap_or(folder);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(path, text));
        if let Err(error) = written {
            if made {
                let _ = fs::remove_dir_all(folder);
            }
            return Err(failing(path, error));
        }
    }
    Ok(())
}

fn report(
    folder: &Path,
    filled: &Filled<'_>,
    files: &[(PathBuf, String)],
    missing: &[String],
    output: &mut Output,
) -> Result<(), Failing> {
    let (kit, name) = (filled.kit, filled.name);
    let run = format!("temposctl pub {name}/in 'how loud?' --reply-to {name}/out");
    if output.json {
        let files: Vec<_> = files.iter().map(|(path, _)| path.display().to_string()).collect();
        let commands = json!({ "build": kit.build, "test": kit.test, "apply": "temposctl apply wiring.lua", "run": run });
        let value = json!({
            "folder": folder.display().to_string(), "files": files, "commands": commands, "missing": missing,
        });
        return Ok(output.value(&value, false)?);
    }
    let folder = folder.display();
    let (language, method) = (title(&kit.language), word(&kit.method));
    output.line(&format!("{folder} holds a function in {language} for the method {method}:"))?;
    output.line("")?;
    for command in [&format!("cd {folder}"), kit.build, kit.test, "temposctl apply wiring.lua", &run] {
        output.line(&format!("  {command}"))?;
    }
    if !missing.is_empty() {
        output.line("")?;
    }
    for what in missing {
        output.line(&format!("missing here: {what}"))?;
    }
    Ok(())
}

/// What is to be installed, where it is missing.
fn missing(need: &Need) -> Option<String> {
    match need {
        Need::Program(program, _) if on_path(program) => None,
        Need::Program(program, from) => Some(format!("{program}; install it: {from}")),
        Need::RustTarget(target) => {
            let rustc = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
            let there =
                rustc.is_ok_and(|said| Path::new(String::from_utf8_lossy(&said.stdout).trim()).is_dir());
            (!there).then(|| format!("the target {target} of Rust; install it: rustup target add {target}"))
        }
        Need::WasmCompiler => {
            let zig = || {
                let mut python = Command::new("python3");
                python.args(["-m", "ziglang", "version"]).stdout(Stdio::null()).stderr(Stdio::null());
                python.status().is_ok_and(|status| status.success())
            };
            let sentence = "a C compiler for WebAssembly; install one: pip install ziglang, or apt-get install \
                            --no-install-recommends clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32";
            (!on_path("clang-19") && !zig()).then(|| sentence.to_owned())
        }
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A value as it is written in a sentence.
fn title(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
}

/// A value as it is written on the command line.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_in_double_braces_is_filled_in() {
        for kit in KITS {
            let filled = Filled::new(kit, "count-words");
            for (path, text) in COMMON.iter().chain(kit.files) {
                for text in [filled.fill(path), filled.fill(text)] {
                    assert!(!text.contains("{{"), "{path} of {:?} by {:?}: {text}", kit.language, kit.method);
                }
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_is_possible() {
        let refused = kit(Language::Python, Some(Method::Dlf)).map(|_| ()).expect_err("no such kit");
        assert_eq!(refused.sentence, "a function in Python cannot run by dlf; possible: --method spawn");
        assert_eq!(kit(Language::C, None).map(|kit| kit.method).ok(), Some(Method::Dlf));
        for name in ["", "a/", "Big", "1st", "../..", "a_b", "test", "x".repeat(65).as_str()] {
            let path = Path::new(name);
            assert!(folder(path).is_err() || path.file_name() == Some(OsStr::new("a")), "{name:?}");
        }
    }
}
