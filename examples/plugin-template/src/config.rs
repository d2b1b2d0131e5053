//! The options of a channel. The host checks what users write against the table, resolves units and fills
//! in defaults; what only this adapter can judge is judged here.

use std::ffi::CString;

use tempos_abi::adapter::ChannelSpec;
use tempos_abi::{OptionKind, OptionSpec, PluginError};

/// The option table: `temposctl plugins` shows it, the host checks by it.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("name", OptionKind::TEXT, "", "The queue; it is made where it does not exist.")
        .required()
        .unit("/NAME"),
    OptionSpec::new("messages", OptionKind::INTEGER, "10", "The most messages that wait in a new queue.")
        .unit("1 to 65536; the system's limit is fs.mqueue.msg_max"),
    OptionSpec::new(
        "keep",
        OptionKind::FLAG,
        "false",
        "Ingress: leave the queue there when the channel is closed.",
    ),
];

/// What a channel is to do.
pub struct Config {
    /// The queue's name.
    pub name: CString,
    /// The most messages of a new queue.
    pub messages: i64,
    /// Whether the queue outlives its ingress channel.
    pub keep: bool,
}

impl Config {
    /// Reads the options of a channel. A refusal is one sentence: which channel, what was wrong, what
    /// would be right.
    pub fn read(spec: &ChannelSpec) -> Result<Self, PluginError> {
        let wrong =
            |what: String| PluginError::bad_option(format!("mqueue channel \"{}\": {what}", spec.name));
        let name = spec.options.text("name").unwrap_or("");
        let plain =
            name.strip_prefix('/').is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '\0']));
        if !plain || name.len() > 255 {
            let shown: String = name.chars().take(40).collect();
            return Err(wrong(format!(
                "name = {shown:?} is not a queue; write \"/NAME\" without further slashes"
            )));
        }
        let messages = spec.options.integer("messages").unwrap_or(10);
        if !(1..=65_536).contains(&messages) {
            return Err(wrong(format!("messages = {messages} is not within 1 to 65536")));
        }
        let name = CString::new(name).map_err(|_| wrong(String::from("name holds a NUL byte")))?;
        Ok(Config { name, messages, keep: spec.options.flag("keep") })
    }
}
