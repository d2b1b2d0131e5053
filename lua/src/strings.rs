//! The natives behind `strings.lua`: one search, one expansion, one plain search.

use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};

use crate::budget;
use crate::module::{SANDBOX_CHUNK, Shared, answer, locked, raise};
use crate::pattern::{Capture, Matcher, Trouble};

/// `find`, `match`, `gmatch` and `gsub` for the sandbox.
pub(crate) fn functions(lua: &Lua, draft: &Shared) -> mlua::Result<Table> {
    let shared = draft.clone();
    let trouble = move |lua: &Lua, trouble: Trouble| {
        let sentence = match trouble {
            Trouble::Malformed(sentence) => sentence,
            Trouble::Over => "the time is up".into(),
        };
        raise(lua, &locked(&shared), &sentence)
    };
    let raised = trouble.clone();
    let search = lua.create_function(
        move |lua,
              (s, pattern, from, last, anchored): (
            LuaString,
            LuaString,
            usize,
            Option<usize>,
            Option<bool>,
        )| {
            let (subject, pattern) = (s.as_bytes(), pattern.as_bytes());
            let mut matcher = Matcher::new(&subject, &pattern, budget::is_over);
            let found = match matcher.search(from, last, anchored.unwrap_or(false)) {
                Ok(None) => return answer(lua, Ok(())),
                Ok(Some(found)) => matcher.captures().map(|captures| (found, captures)),
                Err(trouble) => Err(trouble),
            };
            let (found, captures) = match found {
                Ok(found) => found,
                Err(trouble) => return answer::<()>(lua, Err(raised(lua, trouble))),
            };
            let mut values = vec![Value::Integer(found.start as i64), Value::Integer(found.end as i64)];
            for capture in captures {
                values.push(match capture {
                    Capture::Position(at) => Value::Integer(at as i64 + 1),
                    Capture::Text(range) => Value::String(lua.create_string(&subject[range])?),
                });
            }
            answer(lua, Ok(MultiValue::from_vec(values)))
        },
    )?;
    let expand = lua.create_function(
        move |lua, (replacement, whole, captures): (LuaString, LuaString, mlua::Variadic<Value>)| {
            let template = replacement.as_bytes();
            let mut text = Vec::with_capacity(template.len());
            let mut bytes = template.iter().copied();
            while let Some(byte) = bytes.next() {
                if byte != b'%' {
                    text.push(byte);
                    continue;
                }
                match bytes.next() {
                    Some(b'%') => text.push(b'%'),
                    Some(b'0') => text.extend_from_slice(&whole.as_bytes()),
                    Some(b'1') if captures.is_empty() => text.extend_from_slice(&whole.as_bytes()),
                    Some(digit @ b'1'..=b'9') => match captures.get(usize::from(digit - b'1')) {
                        Some(Value::String(capture)) => text.extend_from_slice(&capture.as_bytes()),
                        Some(Value::Integer(at)) => text.extend_from_slice(at.to_string().as_bytes()),
                        _ => {
                            let digit = char::from(digit);
                            let sentence = format!("invalid capture index %{digit}");
                            return answer::<()>(lua, Err(trouble(lua, Trouble::Malformed(sentence))));
                        }
                    },
                    _ => {
                        let sentence = "invalid use of '%' in replacement string".into();
                        return answer::<()>(lua, Err(trouble(lua, Trouble::Malformed(sentence))));
                    }
                }
            }
            answer(lua, Ok(lua.create_string(text)?))
        },
    )?;
    let find_plain = lua.create_function(|lua, (s, wanted, from): (LuaString, LuaString, usize)| {
        let (subject, wanted) = (s.as_bytes(), wanted.as_bytes());
        let rest = subject.get(from..).unwrap_or_default();
        // Linear in both lengths, unlike the library's own.
        let found = memchr::memmem::find(rest, &wanted).map(|at| (from + at + 1, from + at + wanted.len()));
        match found {
            Some(place) => place.into_lua_multi(lua),
            None => Value::Nil.into_lua_multi(lua),
        }
    })?;
    lua.load(include_str!("strings.lua"))
        .set_name(SANDBOX_CHUNK)
        .into_function()?
        .call((search, expand, find_plain))
}
