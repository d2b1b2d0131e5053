//! Files, folders and modules: what is read, in which order, and what is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempos_control::Command;
use tempos_lua::{Known, Limits, Source, evaluate, evaluate_logged};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tempos-lua-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(fs::canonicalize(path).expect("its real path"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its folder");
        fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run_known(path: &Path, known: &Known) -> Result<Vec<Command>, Vec<String>> {
    evaluate(&Source::Paths(vec![path.into()]), known, &Limits::default())
        .map_err(|mistakes| mistakes.iter().map(|mistake| mistake.to_string()).collect())
}

fn run(path: &Path) -> Result<Vec<Command>, Vec<String>> {
    run_known(path, &Known { adapters: vec!["udp".into()], ..Known::default() })
}

fn names(commands: &[Command]) -> Vec<&str> {
    commands
        .iter()
        .map(|command| match command {
            Command::DeclareLevel(level) => level.name.as_str(),
            Command::DeclareTopic(topic) => topic.name.as_str(),
            Command::DeclareWorkflow(workflow) => workflow.name.as_str(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_folder_is_one_wiring_in_the_order_of_names() {
    let folder = Folder::new();
    folder.file("20-b.lua", "tempos.topic 'b' { qos = 'burst' }");
    folder.file("10-a.lua", "tempos.topic 'a' {} shared = 1");
    folder.file("30-qos.lua", "tempos.qos 'burst' {} assert(shared == nil)");
    folder.file(
        "40-w.lua",
        "tempos.workflow 'w' { from = 'a', to = 'b', call = { method = 'dlf', file = 'f/w.so' } }",
    );
    folder.file(".#10-a.lua", "this is no Lua");
    folder.file("notes.txt", "neither is this");
    folder.file("parts/sub.lua", "error('modules are not run by themselves')");
    let commands = run(&folder.0).expect("a good wiring");
    assert_eq!(names(&commands), ["burst", "a", "b", "w"]);
    let Some(Command::DeclareWorkflow(workflow)) = commands.last() else { panic!("a workflow") };
    assert_eq!(workflow.call.file, folder.0.join("f/w.so").display().to_string());
    assert_eq!(workflow.origin.to_string(), format!("{}:1", folder.0.join("40-w.lua").display()));
}

#[test]
fn a_broken_file_does_not_hide_the_mistakes_of_the_others() {
    let folder = Folder::new();
    let a = folder.file("a.lua", "tempos.topic 'a' { rank = 1");
    let b = folder.file("b.lua", "\ntempos.topic 'b' { qso = 1 }");
    let c = folder.file("c.lua", "while true do end");
    let d = folder.file("d.lua", "tempos.topic 'b' {}");
    let mistakes = run(&folder.0).expect_err("a bad wiring");
    assert_eq!(
        mistakes,
        [
            format!("{}:1: '}}' expected near <eof>", a.display()),
            format!("{}:2: topic \"b\": unknown key \"qso\" (did you mean \"qos\"?)", b.display()),
            format!("{}:1: stopped: the script ran for 100 ms without declaring anything", c.display()),
            format!("{}:1: topic \"b\" is declared twice, first at {}:2", d.display(), b.display()),
        ]
    );
}

#[test]
fn a_long_path_is_named_in_full() {
    let folder = Folder::new();
    let file = folder.file(&format!("{}/{}.lua", "long".repeat(40), "x".repeat(100)), "\n\nerror('here')");
    assert_eq!(run(&file), Err(vec![format!("{}:3: here", file.display())]));
    let file = folder.file(&format!("{}/b.lua", "long".repeat(40)), "\nlocal x =");
    assert_eq!(run(&file), Err(vec![format!("{}:2: unexpected symbol near <eof>", file.display())]));
    let file = folder.file(&format!("{}/c.lua", "long".repeat(40)), "\ntempos.topic 'a' { x = 1 }");
    assert!(run(&file).expect_err("a mistake")[0].starts_with(&format!("{}:2: topic", file.display())));
}

#[test]
fn modules_come_from_the_scripts_folder_and_the_libraries() {
    let folder = Folder::new();
    let main = folder.file(
        "wiring.d/10-main.lua",
        "local press, shop = require 'parts.press', require 'shop'\n\
         assert(require 'parts.press' == press and require 'tempos' == tempos)\n\
         press.declare(shop.name)",
    );
    folder.file(
        "wiring.d/parts/press.lua",
        "local calls = 0\nreturn { declare = function(name)\n calls = calls + 1\n tempos.topic(name .. calls) {}\nend }",
    );
    folder.file("lua/shop.lua", "name = 'shop' return _ENV");
    let known = Known { libraries: vec![folder.0.join("lua")], ..Known::default() };
    let commands = run_known(&main, &known).expect("a good wiring");
    assert_eq!(names(&commands), ["shop1"]);
    let Command::DeclareTopic(topic) = &commands[0] else { panic!("a topic") };
    assert_eq!(
        topic.origin.to_string(),
        format!("{}:4", folder.0.join("wiring.d/parts/press.lua").display())
    );
}

#[test]
fn modules_from_elsewhere_are_refused() {
    let folder = Folder::new();
    let secret = folder.file("secret.lua", "error('it was read')");
    let wiring = folder.0.join("wiring.d");
    fs::create_dir_all(&wiring).expect("a folder");
    symlink(&secret, wiring.join("link.lua")).expect("a link");
    symlink(&folder.0, wiring.join("up")).expect("a link");
    let main = wiring.join("main.lua");
    let at = |sentence: &str| Err(vec![format!("{}:1: {sentence}", main.display())]);
    for (name, sentence) in [
        (
            "..secret",
            "\"..secret\" is not the name of a module; names are letters, digits, \"_\" and \"-\", with dots for folders",
        ),
        (
            "../secret",
            "\"../secret\" is not the name of a module; names are letters, digits, \"_\" and \"-\", with dots for folders",
        ),
        (
            "/etc/passwd",
            "\"/etc/passwd\" is not the name of a module; names are letters, digits, \"_\" and \"-\", with dots for folders",
        ),
        (
            "",
            "\"\" is not the name of a module; names are letters, digits, \"_\" and \"-\", with dots for folders",
        ),
        ("link", &format!("module \"link\" is a link that leads out of {}", wiring.display())),
        ("up.secret", &format!("module \"up.secret\" is a link that leads out of {}", wiring.display())),
        ("missing", &format!("there is no module \"missing\"; looked for {}/missing.lua", wiring.display())),
    ] {
        fs::write(&main, format!("require '{name}'")).expect("a file");
        assert_eq!(run(&main), at(sentence));
    }
    fs::write(&main, "require(7)").expect("a file");
    assert_eq!(run(&main), at("require takes the name of a module, not 7"));
}

#[test]
fn a_module_with_a_mistake_names_its_own_line() {
    let folder = Folder::new();
    let main =
        folder.file("main.lua", "local ok = pcall(require, 'broken')\nassert(not ok)\nrequire 'round'");
    folder.file("broken.lua", "return {");
    let round = folder.file("round.lua", "\nrequire 'round'");
    assert_eq!(run(&main), Err(vec![format!("{}:2: module \"round\" requires itself", round.display())]));
    let main = folder.file("main.lua", "require 'broken'");
    let broken = folder.0.join("broken.lua");
    assert_eq!(run(&main), Err(vec![format!("{}:1: unexpected symbol near <eof>", broken.display())]));
}

#[test]
fn what_is_no_script_is_refused() {
    let folder = Folder::new();
    let missing = folder.0.join("missing.lua");
    let sentence = "the script cannot be read: No such file or directory (os error 2)";
    assert_eq!(run(&missing), Err(vec![format!("{}: {sentence}", missing.display())]));
    let device = Path::new("/dev/zero");
    assert_eq!(run(device), Err(vec!["/dev/zero: a script must be a regular file".into()]));
    let large = folder.file("large.lua", &"-".repeat((1 << 20) + 1));
    assert_eq!(
        run(&large),
        Err(vec![format!("{}: the script is larger than 1048576 bytes", large.display())])
    );
    let full = folder.file("full.lua", &"--\n".repeat((1 << 20) / 3));
    assert_eq!(run(&full), Ok(Vec::new()));
    let empty = Folder::new();
    assert_eq!(run(&empty.0), Ok(Vec::new()));
}

#[test]
fn too_many_scripts_are_refused() {
    let folder = Folder::new();
    for n in 0..12 {
        folder.file(&format!("{n:02}.lua"), "");
    }
    let limits = Limits { files: 10, ..Limits::default() };
    let mistakes = evaluate(&Source::Paths(vec![folder.0.clone()]), &Known::default(), &limits);
    let mistakes = mistakes.expect_err("too many");
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert_eq!(mistakes[0].sentence, "the wiring has more than 10 scripts and modules");
}

#[test]
fn print_goes_to_the_log_with_its_place() {
    let source =
        Source::Text { chunk_name: "talk.lua".into(), lua: "print('a', 1, nil)\nprint('x\\ny')".into() };
    let mut lines = Vec::new();
    let log = |origin: &tempos_control::Origin, line: &str| lines.push(format!("{origin} {line}"));
    evaluate_logged(&source, &Known::default(), &Limits::default(), log).expect("a good script");
    assert_eq!(lines, ["talk.lua:1 a\\t1\\tnil", "talk.lua:2 x\\ny"]);
}
