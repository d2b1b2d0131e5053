//! `temposd --inspect FILE`: what a plugin's file says about itself, read without running any of it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tempos_engine::plugin::manifest::ABI_MAJOR;
use tempos_engine::plugin::{FILE_BYTES_MAX, PluginKind, inspect};

/// What there is to say, one line each, without a line feed at the end.
///
/// # Errors
/// One sentence: why the file is not a plugin.
pub fn describe(path: &Path) -> Result<String, String> {
    let named = |sentence: String| format!("{}: {sentence}", path.display());
    let bytes = read(path).map_err(|error| named(format!("it cannot be read: {error}")))?;
    let manifest = inspect::inspect(&bytes).map_err(named)?;
    let kind = match manifest.kind {
        PluginKind::ADAPTER => "adapter",
        PluginKind::QUEUE => "queue policy",
        PluginKind::INVOKER => "invocation method",
        _ => "of an unknown kind",
    };
    Ok(format!(
        "name     {}\nversion  {}\nkind     {kind}\nabi      {ABI_MAJOR}.{}\nsize     {}",
        manifest.name,
        manifest.version,
        manifest.abi_minor,
        tempos_control::units::show_bytes(bytes.len() as u64)
    ))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // Asked before opening: to open a named pipe would wait for its writer.
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        let what = format!("a plugin is a regular file of at most {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
