//! Compiled functions, kept in a folder from one start of the node to the next.
//!
//! What is in the folder becomes machine code of this process, so nothing is taken from it that this plugin
//! (or one of its kind, with the same rights) has not written: folder and file belong to the node's user or
//! to root, nobody else may write to them, and the file ends with a checksum of itself. What fails this is
//! compiled again; it is never an error.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

const MARK: &[u8; 8] = b"tempos-1";
const CHECKSUM_BYTES: usize = 32;
const FILE_BYTES_MAX: u64 = 1 << 30;
/// The folder keeps the latest of so many files and bytes.
const FILES_MAX: usize = 128;
const FOLDER_BYTES_MAX: u64 = 1 << 30;
/// A file that was begun and not finished for so long was left by a node that died.
const ABANDONED: Duration = Duration::from_secs(3600);

static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// What a compiled function is found by: the engine with its configuration, and the function's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key of a function's content for an engine.
    pub fn of(engine: &impl Hash, content: &[u8]) -> Key {
        let mut sum = Sum(Sha256::new());
        engine.hash(&mut sum);
        Key(format!("{}-{}", hex(&sum.0.finalize()), hex(&Sha256::digest(content))))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes what implements `Hash` in the same way in every process.
struct Sum(Sha256);

impl Hasher for Sum {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, or makes it with mode 0700.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(folder: &Path) -> io::Result<Cache> {
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let meta = fs::symlink_metadata(folder)?;
        if !meta.is_dir() {
            return Err(io::Error::other("it is not a folder"));
        }
        if !is_ours(&meta) {
            return Err(io::Error::other(
                "others than the node's user may write to it; it must be of mode 0700",
            ));
        }
        Ok(Cache { folder: folder.to_owned() })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(&key.0).with_extension("cwasm")
    }

    /// What was stored under that key; `None` where there is nothing, or nothing that can be trusted.
    pub fn load(&self, key: &Key) -> Option<Vec<u8>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(key)).ok()?;
        let meta = file.metadata().ok()?;
        if !meta.is_file() || !is_ours(&meta) || meta.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        (&file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let rest = bytes.strip_suffix(MARK)?;
        let (content, checksum) = rest.split_at_checked(rest.len().checked_sub(CHECKSUM_BYTES)?)?;
        if Sha256::digest(content)[..] != *checksum {
            return None;
        }
        let len = content.len();
        bytes.truncate(len);
        // What is used stays longest.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// All keys of that content, for whatever engine: the engine knows what it can use.
    #[cfg_attr(feature = "compiler", allow(dead_code))]
    pub fn keys_of(&self, content: &[u8]) -> Vec<Key> {
        let end = format!("-{}", hex(&Sha256::digest(content)));
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let keys = names.filter_map(|name| name.strip_suffix(".cwasm").map(str::to_owned));
        keys.filter(|key| key.ends_with(&end)).map(Key).take(FILES_MAX).collect()
    }

    /// Stores something under a key, and makes room where the folder is full.
    ///
    /// # Errors
    /// What the system says.
    pub fn store(&self, key: &Key, content: &[u8]) -> io::Result<()> {
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let hidden = self.folder.join(format!(".{}-{number}.part", std::process::id()));
        let written = write(&hidden, content).and_then(|()| fs::rename(&hidden, self.path(key)));
        if written.is_err() {
            let _ = fs::remove_file(&hidden);
        }
        self.make_room();
        written
    }

    /// Removes what is damaged, so that it is not read again and again.
    pub fn forget(&self, key: &Key) {
        let _ = fs::remove_file(self.path(key));
    }

    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
            let Ok(modified) = meta.modified() else { continue };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("cwasm") => files.push((modified, meta.len(), path)),
                Some("part") if modified.elapsed().is_ok_and(|age| age > ABANDONED) => {
                    let _ = fs::remove_file(path);
                }
                _ => {}
            }
        }
        files.sort_by_key(|(modified, ..)| std::cmp::Reverse(*modified));
        let mut bytes = 0;
        for (at, (_, len, path)) in files.iter().enumerate() {
            bytes += len;
            if at >= FILES_MAX || (at > 0 && bytes > FOLDER_BYTES_MAX) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.write_all(&Sha256::digest(content))?;
    file.write_all(MARK)?;
    File::sync_data(&file)
}

/// Whether nobody but root and the node's user can write to it.
fn is_ours(meta: &fs::Metadata) -> bool {
    // SAFETY: geteuid(2) has no preconditions.
    let own = unsafe { libc::geteuid() };
    (meta.uid() == own || meta.uid() == 0) && meta.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Folder {
            Folder(std::env::temp_dir().join(format!("tempos-wasm-cache-{test}-{}", std::process::id())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_stored_is_found_by_engine_and_content_alone() {
        let folder = Folder::new("found");
        let cache = Cache::open(&folder.0).expect("made");
        assert_eq!(fs::metadata(&folder.0).expect("there").mode() & 0o777, 0o700);
        let key = Key::of(&"engine 1", b"content");
        assert_eq!(cache.load(&key), None);
        cache.store(&key, b"machine code").expect("stored");
        assert_eq!(cache.load(&key).as_deref(), Some(&b"machine code"[..]));
        assert_eq!(cache.load(&Key::of(&"engine 2", b"content")), None);
        assert_eq!(cache.keys_of(b"content"), std::slice::from_ref(&key));
        assert_eq!(cache.keys_of(b"contend"), []);
        assert_eq!(cache.load(&Key::of(&"engine 1", b"contend")), None);
        cache.forget(&key);
        assert_eq!(cache.load(&key), None);
        assert_eq!(fs::read_dir(&folder.0).expect("there").count(), 0, "nothing half written stays");
    }

    #[test]
    fn no_damage_and_no_stranger_is_trusted() {
        let folder = Folder::new("damage");
        let cache = Cache::open(&folder.0).expect("made");
        let key = Key::of(&1, b"content");
        cache.store(&key, &[7; 1000]).expect("stored");
        let (path, whole) = (cache.path(&key), fs::read(cache.path(&key)).expect("there"));
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).expect("written");
            assert_eq!(cache.load(&key), None, "cut at {len}");
        }
        for at in [0, 500, 1000, 1031, 1032, 1039] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("written");
            assert_eq!(cache.load(&key), None, "damaged at {at}");
        }
        fs::write(&path, &whole).expect("written");
        assert!(cache.load(&key).is_some());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
        assert_eq!(cache.load(&key), None, "anybody may have written it");
        fs::remove_file(&path).expect("removed");
        fs::write(folder.0.join("elsewhere"), &whole).expect("written");
        std::os::unix::fs::symlink(folder.0.join("elsewhere"), &path).expect("linked");
        assert_eq!(cache.load(&key), None, "a link leads anywhere");
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_no_cache() {
        let folder = Folder::new("open");
        fs::create_dir(&folder.0).expect("made");
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).expect("set");
        let error = Cache::open(&folder.0).expect_err("refused");
        assert!(error.to_string().contains("mode 0700"), "{error}");
        assert!(Cache::open(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn the_oldest_files_make_room() {
        let folder = Folder::new("room");
        let cache = Cache::open(&folder.0).expect("made");
        let first = Key::of(&0, b"");
        cache.store(&first, b"x").expect("stored");
        let past = SystemTime::now() - Duration::from_secs(1000);
        File::options().write(true).open(cache.path(&first)).and_then(|f| f.set_modified(past)).expect("set");
        (1..=FILES_MAX).for_each(|number| cache.store(&Key::of(&number, b""), b"x").expect("stored"));
        assert_eq!(fs::read_dir(&folder.0).expect("there").count(), FILES_MAX);
        assert_eq!(cache.load(&first), None);
    }
}
