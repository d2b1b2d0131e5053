//! Editor stubs and the manual's tables, made from the same table of keys that scripts are checked
//! against.

use std::fmt::Write;

use tempos_control::schema::{CONSTRUCTORS, Constructor, Key, KeyKind};

use crate::hooks::{EVENTS, FACTS};

/// The adapters that have a constructor of their own in the stubs; any other goes by `tempos.channel`.
const ADAPTERS: &[&str] = &["udp", "unix", "tcp", "shm"];

/// LuaLS annotations of the module `tempos`.
pub fn stubs() -> String {
    let mut text = String::from(
        "---@meta tempos\n-- Generated from the table of keys in host/control/src/schema.rs: do not edit.\n\n\
         ---@class tempos.Channel\n---@class tempos.Group\n\n\
         ---A rule that gives events another level.\n---@class (exact) tempos.LevelRule\n\
         ---@field match table<string, string|integer|{min?: integer, max?: integer}> Attributes; all must match.\n\
         ---@field qos string The level.\n\n",
    );
    for constructor in CONSTRUCTORS {
        class(&mut text, constructor);
    }
    text.push_str("---@class (exact) tempos\ntempos = {}\n\n");
    for constructor in CONSTRUCTORS.iter().filter(|c| !c.name.contains('.')) {
        let (name, returns) = match constructor.name {
            "channel" => {
                channel(&mut text, constructor);
                continue;
            }
            "on" => {
                hooks(&mut text);
                continue;
            }
            "group" => ("group", ": tempos.Group"),
            name => (name, ""),
        };
        line(&mut text, &format!("---{}", constructor.help));
        line(&mut text, "---@param name string");
        line(&mut text, &format!("---@return fun(fields: {}){returns}", class_name(name)));
        line(&mut text, &format!("function tempos.{name}(name) end\n"));
    }
    text.push_str(
        "---The value of an environment variable of the node, or nil.\n---@param name string\n---@return string?\n\
         function tempos.env(name) end\n\n---The name of this machine.\n---@return string\n\
         function tempos.hostname() end\n\nreturn tempos\n",
    );
    text
}

/// The tables of all constructors in Markdown, as they stand in the README of this room.
pub fn manual() -> String {
    let mut text = String::new();
    for constructor in CONSTRUCTORS {
        let title = match constructor.name {
            "channel" => "`tempos.ADAPTER { … }`, `tempos.channel(\"ADAPTER\", { … })`".into(),
            "on" => "`tempos.on(\"EVENT\", { … }, function(e) … end)`".into(),
            name => match name.split_once('.') {
                Some((outer, inner)) => format!("`{inner} = {{ … }}` in `tempos.{outer}`"),
                None => format!("`tempos.{name} \"NAME\" {{ … }}`"),
            },
        };
        line(&mut text, &format!("### {title}\n\n{}", constructor.help));
        if constructor.open {
            line(&mut text, "Any other key is an option of the plugin.");
        }
        line(&mut text, "\n| Key | Holds | Default | Meaning |\n|---|---|---|---|");
        for key in constructor.keys {
            let default = match (key.required, key.default) {
                (true, _) => "**required**".into(),
                (false, "") => String::new(),
                (false, default) => format!("`{default}`"),
            };
            line(&mut text, &format!("| `{}` | {} | {default} | {} |", key.name, holds(key), key.help));
        }
        text.push('\n');
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn class_name(constructor: &str) -> String {
    let camel = |part: &str| {
        let mut chars = part.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    format!("tempos.{}Spec", constructor.split('.').map(camel).collect::<String>())
}

fn class(text: &mut String, constructor: &Constructor) {
    let exact = if constructor.open { "" } else { "(exact) " };
    line(text, &format!("---{}", constructor.help));
    line(text, &format!("---@class {exact}{}", class_name(constructor.name)));
    if constructor.name == "group" {
        line(text, "---@field [integer] tempos.Channel A member.");
    }
    for key in constructor.keys {
        let mark = if key.required { "" } else { "?" };
        let mut help = key.help.to_owned();
        if let KeyKind::Integer { min, max } = key.kind {
            let _ = write!(help, " From {min} to {max}.");
        }
        if !key.default.is_empty() {
            let _ = write!(help, " Default: {}.", key.default);
        }
        line(text, &format!("---@field {}{mark} {} {help}", key.name, kind_name(key.kind)));
    }
    if constructor.open {
        line(text, "---@field [string] any An option of the plugin.");
    }
    text.push('\n');
}

fn channel(text: &mut String, constructor: &Constructor) {
    for adapter in ADAPTERS {
        line(text, &format!("---A channel of the adapter {adapter}.\n---@param fields tempos.ChannelSpec"));
        line(text, &format!("---@return tempos.Channel\nfunction tempos.{adapter}(fields) end\n"));
    }
    line(text, &format!("---{}", constructor.help));
    line(text, "---@param adapter string\n---@param fields tempos.ChannelSpec\n---@return tempos.Channel");
    line(text, "function tempos.channel(adapter, fields) end\n");
}

fn hooks(text: &mut String) {
    let events = EVENTS.iter().map(|event| format!("\"{event}\"")).collect::<Vec<_>>().join("|");
    line(text, "---What has happened.\n---@class tempos.Happening");
    for (key, kind, help) in FACTS {
        line(text, &format!("---@field {key} {kind} {help}"));
    }
    line(text, "\n---Calls a function when something happens.");
    line(text, &format!("---@param event {events}\n---@param options tempos.OnSpec"));
    line(text, "---@param handler fun(e: tempos.Happening)");
    line(text, &format!("---@overload fun(event: {events}, handler: fun(e: tempos.Happening))"));
    line(text, "function tempos.on(event, options, handler) end\n");
    line(text, "---Changes some keys of what is declared; only in a function of tempos.on.");
    line(
        text,
        "---@param kind \"topic\"|\"workflow\"|\"qos\"\n---@param name string\n---@param fields table",
    );
    line(text, "function tempos.change(kind, name, fields) end\n");
}

fn kind_name(kind: KeyKind) -> String {
    match kind {
        KeyKind::Flag => "boolean".into(),
        KeyKind::Integer { .. } => "integer".into(),
        KeyKind::Word(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join("|"),
        KeyKind::Integers => "integer[]".into(),
        KeyKind::Table(name) => class_name(name),
        KeyKind::Channel => "tempos.Channel".into(),
        KeyKind::Channels => "tempos.Channel[]".into(),
        KeyKind::Groups => "(tempos.Group|tempos.Channel)[]".into(),
        KeyKind::Rules => "tempos.LevelRule[]".into(),
        KeyKind::Words(words) => {
            format!("({})[]", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join("|"))
        }
        KeyKind::Targets => "string|table<string, string>".into(),
        KeyKind::Texts => "string[]".into(),
        KeyKind::Share => "number".into(),
        // Texts, and texts with a unit.
        _ => "string".into(),
    }
}

fn holds(key: &Key) -> String {
    match key.kind {
        KeyKind::Flag => "true or false".into(),
        KeyKind::Integer { min, max } => format!("{min} to {max}"),
        KeyKind::Text => "text".into(),
        KeyKind::Duration => "duration, `\"2ms\"`".into(),
        KeyKind::Size => "size, `\"16MiB\"`".into(),
        KeyKind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        KeyKind::Integers => "list of whole numbers".into(),
        KeyKind::Table(_) => "table, see below".into(),
        KeyKind::Channel => "channel".into(),
        KeyKind::Channels => "list of channels".into(),
        KeyKind::Groups => "list of groups or channels".into(),
        KeyKind::Rules => "list of rules".into(),
        KeyKind::Words(words) => {
            format!("list of {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
        KeyKind::Targets => "text, or table of branches".into(),
        KeyKind::Texts => "list of texts".into(),
        KeyKind::Rate => "rate, `\"1000/s\"`".into(),
        KeyKind::Share => "0 to 1".into(),
        other => format!("{other:?}"),
    }
}
