//! `require`: modules of the script's own folder and of the library folders, and of nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaString, Table, Value};

use crate::draft::Draft;
use crate::module::{Shared, answer, locked, module_folders, raise};
use crate::sentence::{message_of, one_line, render};
use crate::source::read_file;

/// The longest name of a module, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// Adds the two functions that `require` is built from.
pub(crate) fn functions(lua: &Lua, draft: &Shared, table: &Table) -> mlua::Result<()> {
    let shared = draft.clone();
    let find = move |lua: &Lua, (folder, name): (Option<String>, Value)| {
        let mut draft = locked(&shared);
        let found = find_module(&draft, folder.map(PathBuf::from), &name);
        let found = found.map_err(|sentence| raise(lua, &draft, &sentence)).map(|path| {
            let path = path.to_string_lossy().into_owned();
            let alias = draft.chunks.alias(&one_line(&path));
            (path, alias)
        });
        answer(lua, found)
    };
    table.set("find_module", lua.create_function(find)?)?;

    let shared = draft.clone();
    let load = move |lua: &Lua, (path, alias, environment): (String, String, Table)| {
        let mut draft = locked(&shared);
        let Draft { limits, tally, .. } = &mut *draft;
        let text = read_file(Path::new(&path), limits)
            .and_then(|text| tally.add(text.len(), limits).map(|()| text))
            .map_err(|sentence| raise(lua, &draft, &format!("{path}: {sentence}")));
        drop(draft);
        let chunk = text
            .and_then(|text| load_text(lua, &text, &alias, environment).map_err(|error| message_of(&error)));
        answer(lua, chunk)
    };
    table.set("load_module", lua.create_function(load)?)
}

/// Compiles a text with its environment. Lua's compiled form is refused: it can crash the machine.
pub(crate) fn load_text(
    lua: &Lua,
    text: &[u8],
    alias: &str,
    environment: Table,
) -> mlua::Result<mlua::Function> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.first() == Some(&0x1b) {
        return Err(mlua::Error::RuntimeError(format!(
            "{alias}:0: the script is compiled Lua; only its text can be read"
        )));
    }
    // `#!/usr/bin/lua`: the line stays, so that the lines after it keep their numbers.
    let shebang = if text.first() == Some(&b'#') {
        text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len())
    } else {
        0
    };
    lua.load(&text[shebang..])
        .set_name(format!("@{alias}"))
        .set_mode(ChunkMode::Text)
        .set_environment(environment)
        .into_function()
}

fn find_module(draft: &Draft, folder: Option<PathBuf>, name: &Value) -> Result<PathBuf, String> {
    let name = match name {
        Value::String(name) => checked_name(name)?,
        other => return Err(format!("require takes the name of a module, not {}", render(other, 0))),
    };
    let relative = format!("{}.lua", name.replace('.', "/"));
    let folders = module_folders(draft, folder);
    for folder in &folders {
        let path = folder.join(&relative);
        if !path.exists() {
            continue;
        }
        // A link must not lead out of the folder.
        let real =
            fs::canonicalize(&path).map_err(|error| format!("module {name:?} cannot be read: {error}"))?;
        let inside = fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder));
        if !inside {
            return Err(format!("module {name:?} is a link that leads out of {}", folder.display()));
        }
        return Ok(real);
    }
    if folders.is_empty() {
        return Err(format!(
            "there is no module {name:?}: this text has no folder, and no library folder is set"
        ));
    }
    let looked: Vec<String> =
        folders.iter().map(|folder| folder.join(&relative).display().to_string()).collect();
    Err(format!("there is no module {name:?}; looked for {}", looked.join(" and ")))
}

fn checked_name(name: &LuaString) -> Result<String, String> {
    let text = name.to_string_lossy();
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    if text.len() <= NAME_BYTES_MAX && text.split('.').all(plain) {
        return Ok(text);
    }
    let shown = one_line(&text.chars().take(80).collect::<String>());
    Err(format!(
        "{shown:?} is not the name of a module; names are letters, digits, \"_\" and \"-\", with dots for folders"
    ))
}
