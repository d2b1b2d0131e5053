//! Who may connect to a socket's file: its mode and its group, as options say it.

use nix::unistd::Group;
use tempos_abi::Options;

/// Mode and group of a socket's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The mode; none: by the umask.
    pub mode: Option<u32>,
    /// The group's number; none: the process's own.
    pub group: Option<u32>,
}

impl Access {
    /// Reads the options `mode` and `group`.
    ///
    /// # Errors
    /// What is wrong, and what would be right; the subject is the caller's to say.
    pub fn read(options: &Options) -> Result<Self, String> {
        let text = |key| options.text(key).filter(|text| !text.is_empty());
        Ok(Access { mode: text("mode").map(mode).transpose()?, group: text("group").map(group).transpose()? })
    }
}

fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("mode = {text:?} is not an octal mode of 0 to 0777, such as \"0660\""))
}

fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(format!("group = {text:?} is not a group of this machine")),
    }
}
