//! Who can write a plugin's file decides what runs in the node: dlopen(3) of it is code execution as the
//! node's user. A file is trusted where it and its folder belong to root or that user, nobody else can
//! write either, and it is a regular file that lies in that folder.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::FILE_BYTES_MAX;

/// Reads the whole of a trusted file.
///
/// # Errors
/// One sentence that says what is not to be trusted and how that is put right, or why it cannot be read.
pub fn read(path: &Path, trusted_uid: u32) -> Result<Vec<u8>, String> {
    let target = inside_its_folder(path, trusted_uid)?;
    let file = OpenOptions::new()
        .read(true)
        // The target was resolved above: a link put there since is refused, and a FIFO does not block.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(&target)
        .map_err(|error| format!("it cannot be opened: {error}"))?;
    let meta = file.metadata().map_err(|error| format!("it cannot be examined: {error}"))?;
    regular(&meta)?;
    owned("the file", &target, &meta, trusted_uid)?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {FILE_BYTES_MAX} are allowed", meta.len()));
    }
    whole(file, meta.len())
}

/// Resolves `path` and checks its folder.
fn inside_its_folder(path: &Path, trusted_uid: u32) -> Result<PathBuf, String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder =
        parent.canonicalize().map_err(|error| format!("its folder {parent:?} cannot be read: {error}"))?;
    let meta =
        folder.metadata().map_err(|error| format!("its folder {folder:?} cannot be examined: {error}"))?;
    owned("its folder", &folder, &meta, trusted_uid)?;
    let name = path.file_name().ok_or_else(|| String::from("the path names no file"))?;
    let spelled = folder.join(name);
    let meta = spelled.symlink_metadata().map_err(|error| format!("it cannot be examined: {error}"))?;
    if !meta.is_symlink() {
        regular(&meta)?;
        return Ok(spelled);
    }
    let target = spelled
        .canonicalize()
        .map_err(|error| format!("it is a symbolic link that leads nowhere: {error}"))?;
    if target.parent() != Some(&folder) {
        return Err(format!(
            "it is a symbolic link out of its folder, to {target:?}; put the file itself into {folder:?}"
        ));
    }
    Ok(target)
}

fn regular(meta: &Metadata) -> Result<(), String> {
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => "a symbolic link",
        () => "a device",
    };
    Err(format!("it is {what}, not a regular file"))
}

fn owned(what: &str, path: &Path, meta: &Metadata, trusted_uid: u32) -> Result<(), String> {
    if meta.uid() != 0 && meta.uid() != trusted_uid {
        let who = if trusted_uid == 0 {
            String::from("root")
        } else {
            format!("root or user {trusted_uid}, whom the node runs as")
        };
        return Err(format!("{what} {path:?} belongs to user {}; it must belong to {who}", meta.uid()));
    }
    // A POSIX ACL that lets others write shows in the group bits too (acl(5)).
    let mode = meta.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let who = if mode & 0o002 != 0 { "everyone" } else { "its group" };
        return Err(format!(
            "{what} {path:?} can be written by {who} (mode {mode:04o}); run: chmod go-w {path:?}"
        ));
    }
    Ok(())
}

fn whole(file: File, expected: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    file.take(expected + 1).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if bytes.len() as u64 != expected {
        return Err(String::from(
            "it changed while it was read; it is looked at again when its writer closes it",
        ));
    }
    Ok(bytes)
}
