//! The functions that a script reaches: the constructors, and the few things it may ask of the node.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};
use tempos_control::{Origin, names};

use crate::draft::{Draft, Kind, Pending, Phase, Token};
use crate::sentence::{one_line, render};
use crate::{budget, build, require};

/// The draft of a run, as the functions of a script hold it.
pub(crate) type Shared = Arc<Mutex<Draft>>;

/// The chunk name of the script that surrounds all others.
pub(crate) const SANDBOX_CHUNK: &str = "=tempos";
/// Most lines that `print` may say in a run.
const PRINTED_MAX: usize = 1000;
/// How far up the stack the line of a script is looked for.
const FRAMES_MAX: usize = 16;
/// Parts of Lua that a script may look for.
const ABSENT: &[&str] =
    &["os", "io", "debug", "package", "load", "loadfile", "loadstring", "dofile", "collectgarbage", "warn"];

/// Only one thread ever takes this lock; a panic of that thread ends the run anyway.
pub(crate) fn locked(draft: &Shared) -> MutexGuard<'_, Draft> {
    draft.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The nearest place on the stack that belongs to a script.
pub(crate) fn caller(lua: &Lua, draft: &Draft) -> Origin {
    let mut level = 1;
    while level < FRAMES_MAX {
        let found = lua.inspect_stack(level, |frame| {
            let source = frame.source().source.map(|source| source.into_owned()).unwrap_or_default();
            (source, frame.current_line())
        });
        match found {
            None => break,
            Some((source, Some(line))) => {
                let line = u32::try_from(line).unwrap_or(u32::MAX);
                if let Some(origin) =
                    source.strip_prefix('@').and_then(|name| draft.chunks.origin(name, line))
                {
                    return origin;
                }
            }
            Some((_, None)) => {}
        }
        level += 1;
    }
    Origin::new("script", 0)
}

/// The text of an error for the script, with the place of its call.
pub(crate) fn raise(lua: &Lua, draft: &Draft, sentence: &str) -> String {
    let origin = caller(lua, draft);
    let alias = draft.chunks.known_as(&origin.file).unwrap_or("script");
    format!("{alias}:{}: {sentence}", origin.line)
}

/// How a native answers: `true` and its values, or `false` and the text that `sandbox.lua` then raises.
/// An error of mlua would reach a script's `pcall` as an object with a traceback, not as a text.
pub(crate) fn answer<R: IntoLuaMulti>(lua: &Lua, result: Result<R, String>) -> mlua::Result<MultiValue> {
    match result {
        Ok(values) => {
            let mut values = values.into_lua_multi(lua)?;
            values.push_front(Value::Boolean(true));
            Ok(values)
        }
        Err(text) => (false, text).into_lua_multi(lua),
    }
}

/// The table of native functions that the sandbox is built from.
pub(crate) fn natives(lua: &Lua, draft: &Shared) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("was_over", lua.create_function(|_, ()| Ok(budget::was_over()))?)?;
    table.set("wrong", Token::Wrong.to_lua())?;
    table.set("kinds", ["qos", "topic", "group", "workflow", "channel"])?;
    table.set("adapters", locked(draft).adapters.clone())?;
    table.set("patterns", crate::strings::functions(lua, draft)?)?;
    constructors(lua, draft, &table)?;
    questions(lua, draft, &table)?;
    require::functions(lua, draft, &table)?;
    Ok(table)
}

fn constructors(lua: &Lua, draft: &Shared, table: &Table) -> mlua::Result<()> {
    let shared = draft.clone();
    let begin_change = move |lua: &Lua, (kind, name): (LuaString, Value)| {
        let mut draft = locked(&shared);
        if draft.phase == Phase::Declaring {
            let sentence = "tempos.change is for the functions of tempos.on; here the wiring is declared";
            return answer::<()>(lua, Err(raise(lua, &draft, sentence)));
        }
        answer(lua, begin(lua, &mut draft, &kind, &name))
    };
    table.set("begin_change", lua.create_function(begin_change)?)?;

    let shared = draft.clone();
    let begin = move |lua: &Lua, (kind, name): (LuaString, Value)| {
        let mut draft = locked(&shared);
        let is_value = matches!(&*kind.as_bytes(), b"group" | b"channel");
        if draft.phase == Phase::Changing && !is_value {
            let sentence =
                "a function of tempos.on declares nothing; write tempos.change(\"topic\", NAME, { … })";
            return answer::<()>(lua, Err(raise(lua, &draft, sentence)));
        }
        answer(lua, begin(lua, &mut draft, &kind, &name))
    };
    table.set("begin", lua.create_function(begin)?)?;

    let shared = draft.clone();
    let on = move |lua: &Lua, (event, options): (Value, Value)| {
        let mut draft = locked(&shared);
        let origin = caller(lua, &draft);
        let counted = draft.count_declaration(&origin);
        let counted = match draft.phase {
            Phase::Declaring => counted,
            Phase::Changing => Err("a function of tempos.on takes no further hooks".into()),
        };
        if let Err(sentence) = counted {
            return answer::<()>(lua, Err(raise(lua, &draft, &sentence)));
        }
        build::hook(&mut draft, &event, &options, &origin);
        budget::renew();
        answer(lua, Ok(()))
    };
    table.set("on", lua.create_function(on)?)?;

    let shared = draft.clone();
    let finish = move |_: &Lua, (handle, fields): (usize, Value)| {
        let token = build::finish(&mut locked(&shared), handle, &fields);
        budget::renew();
        Ok(token.to_lua())
    };
    table.set("finish", lua.create_function(finish)?)?;

    let shared = draft.clone();
    let channel = move |lua: &Lua, (adapter, fields): (String, Value)| {
        let mut draft = locked(&shared);
        let origin = caller(lua, &draft);
        if let Err(sentence) = draft.count_declaration(&origin) {
            return answer::<()>(lua, Err(raise(lua, &draft, &sentence)));
        }
        let token = build::channel(&mut draft, &adapter, &fields, origin);
        budget::renew();
        answer(lua, Ok(token.to_lua()))
    };
    table.set("channel", lua.create_function(channel)?)?;

    let shared = draft.clone();
    let unknown = move |lua: &Lua, name: Value| {
        let mut draft = locked(&shared);
        let origin = caller(lua, &draft);
        let name = match name {
            Value::String(name) => one_line(&name.to_string_lossy()),
            other => render(&other, 0),
        };
        let module = ["qos", "topic", "group", "workflow", "channel", "env", "hostname", "on", "change"];
        let hint = if draft.mistakes.is_full() {
            String::new()
        } else {
            let adapters = draft.adapters.iter().map(String::as_str);
            names::hint(&name, module.into_iter().chain(adapters))
        };
        let sentence = format!("tempos.{name} is neither a constructor nor an adapter that is loaded{hint}");
        draft.mistakes.note(&origin, sentence);
        Ok(())
    };
    table.set("unknown", lua.create_function(unknown)?)
}

/// Notes the first half of a two-part constructor; the answer is its place among the pending ones.
fn begin(lua: &Lua, draft: &mut Draft, kind: &LuaString, name: &Value) -> Result<usize, String> {
    let kind = match &*kind.as_bytes() {
        b"qos" => Kind::Qos,
        b"topic" => Kind::Topic,
        b"group" => Kind::Group,
        b"workflow" => Kind::Workflow,
        _ => Kind::Channel,
    };
    let word = if kind == Kind::Channel { "adapter" } else { kind.word() };
    let origin = caller(lua, draft);
    draft.count_declaration(&origin).map_err(|sentence| raise(lua, draft, &sentence))?;
    let given = match name {
        Value::String(text) => match text.to_str() {
            Ok(text) if text.len() <= 4 * names::NAME_BYTES_MAX => Ok(text.to_owned()),
            Ok(text) => Err(names::check(word, &text).err().unwrap_or_default()),
            Err(_) => Err(format!("the name of a {word} must be UTF-8")),
        },
        other => {
            let form = match kind {
                Kind::Channel => "tempos.channel(\"ADAPTER\", { … })".into(),
                _ => format!("tempos.{word} \"NAME\" {{ … }}"),
            };
            Err(format!("a {word} begins with its name, not {}; write {form}", render(other, 0)))
        }
    };
    // Not raised: the script goes on, so that its other mistakes come to light as well.
    let refused = given.is_err();
    if refused {
        build::spill(draft, name);
    }
    let name = given.unwrap_or_else(|sentence| {
        draft.mistakes.note(&origin, one_line(&sentence));
        String::new()
    });
    draft.text_bytes += name.len();
    let folder = draft.folder.clone();
    draft.pending.push(Pending { kind, name, origin, folder, finished: refused, refused });
    Ok(draft.pending.len() - 1)
}

fn questions(lua: &Lua, draft: &Shared, table: &Table) -> mlua::Result<()> {
    let shared = draft.clone();
    let print = move |lua: &Lua, line: LuaString| {
        let mut draft = locked(&shared);
        if draft.printed.len() < PRINTED_MAX {
            let origin = caller(lua, &draft);
            // Bounded before it is copied.
            let bytes = line.as_bytes();
            let line = one_line(&String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]));
            draft.printed.push((origin, line));
        }
        Ok(())
    };
    table.set("print", lua.create_function(print)?)?;

    let shared = draft.clone();
    let env = move |lua: &Lua, name: Value| {
        let found = match &name {
            // A name of any other form is answered with nil, as one that is not set.
            Value::String(text) => Ok(std::env::var_os(text.to_string_lossy())),
            other => {
                let sentence = format!("tempos.env takes the name of a variable, not {}", render(other, 0));
                Err(raise(lua, &locked(&shared), &sentence))
            }
        };
        answer(lua, found.map(|value| value.map(|value| value.to_string_lossy().into_owned())))
    };
    table.set("env", lua.create_function(env)?)?;

    let hostname = |_: &Lua, _: Value| {
        let name = rustix::system::uname();
        Ok(name.nodename().to_string_lossy().into_owned())
    };
    table.set("hostname", lua.create_function(hostname)?)?;

    let shared = draft.clone();
    let note_raise = move |lua: &Lua, raised: Value| {
        let mut draft = locked(&shared);
        draft.raised_at = Some(caller(lua, &draft)).filter(|origin| origin.line > 0);
        Ok(raised)
    };
    table.set("note_raise", lua.create_function(note_raise)?)?;

    let shared = draft.clone();
    let missing = move |lua: &Lua, name: Value| match &name {
        Value::String(name) if ABSENT.iter().any(|absent| name.as_bytes() == absent.as_bytes()) => {
            let sentence =
                format!("a wiring script has no {:?}: it can only declare", name.to_string_lossy());
            answer::<()>(lua, Err(raise(lua, &locked(&shared), &sentence)))
        }
        _ => answer(lua, Ok(())),
    };
    table.set("missing", lua.create_function(missing)?)?;

    let own_length = |_: &Lua, value: Value| match value {
        Value::Table(table) => {
            let length = table.metatable().map(|metatable| metatable.raw_get::<Value>("__len"));
            Ok(!matches!(length, None | Some(Ok(Value::Nil))))
        }
        _ => Ok(false),
    };
    table.set("has_length_of_its_own", lua.create_function(own_length)?)
}

/// Folders in the order in which `require` looks into them.
pub(crate) fn module_folders(draft: &Draft, folder: Option<PathBuf>) -> Vec<PathBuf> {
    folder.into_iter().chain(draft.libraries.iter().cloned()).collect()
}
