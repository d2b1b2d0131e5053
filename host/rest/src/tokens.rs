//! The token file: who may come in over TCP, and what for.
//!
//! One token a line: `NAME SCOPE TOKEN`, the scope `read` or `change`, the token as it is sent or, so that the file
//! holds no secret, `sha256:` and its digest in hexadecimal. `#` begins a comment.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use tempos_control::{Mistake, Origin, names};

use crate::access::Scope;
use crate::limits::{TOKEN_BYTES_MIN, TOKEN_FILE_BYTES, TOKENS};
use crate::shared::lock;

/// A token: never itself, only its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// What it is good for.
    pub scope: Scope,
    digest: [u8; 32],
}

/// The tokens of a file, read again when it changes.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stamp: Stamp,
    tokens: Vec<Token>,
}

/// By what a file is known to have changed: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64, i64);

impl Tokens {
    /// Reads a token file.
    ///
    /// # Errors
    /// All its mistakes.
    pub fn read(path: &Path) -> Result<Tokens, Vec<Mistake>> {
        let (stamp, tokens) = read(path)?;
        Ok(Tokens { path: path.to_owned(), state: Mutex::new(State { stamp, tokens }) })
    }

    /// The name and scope of the token that was sent. The time that this takes does not depend on how much of a
    /// token is right, nor on which it is. A file that has come to hold mistakes, or has gone, lets nobody in.
    ///
    /// # Errors
    /// The mistakes of the file, one sentence each.
    pub fn find(&self, sent: &[u8]) -> Result<Option<(String, Scope)>, String> {
        let mut state = lock(&self.state);
        if stamp(&self.path).ok() != Some(state.stamp) {
            match read(&self.path) {
                Ok((stamp, tokens)) => *state = State { stamp, tokens },
                Err(mistakes) => {
                    return Err(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
                }
            }
        }
        let digest: [u8; 32] = Sha256::digest(sent).into();
        let mut found = u32::MAX;
        for (at, token) in (0u32..).zip(&state.tokens) {
            let same: Choice = token.digest.ct_eq(&digest);
            found = u32::conditional_select(&found, &at, same);
        }
        Ok(state.tokens.get(found as usize).map(|token| (token.name.clone(), token.scope)))
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let found = std::fs::metadata(path)?;
    Ok((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
}

fn read(path: &Path) -> Result<(Stamp, Vec<Token>), Vec<Mistake>> {
    let whole = |sentence: String| vec![Mistake::new(&Origin::new(path.display().to_string(), 0), sentence)];
    let unreadable = |error| whole(format!("the token file cannot be read: {error}"));
    let found = std::fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        return Err(whole("the token file must be a regular file".into()));
    }
    if found.permissions().mode() & 0o027 != 0 {
        return Err(whole(format!(
            "its mode is {:03o}: others may read it, or its group change it; chmod 600 it",
            found.permissions().mode() & 0o777
        )));
    }
    let stamp = stamp(path).map_err(unreadable)?;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(TOKEN_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > TOKEN_FILE_BYTES {
        return Err(whole(format!("the token file has over {TOKEN_FILE_BYTES} bytes")));
    }
    let tokens = parse(&path.display().to_string(), &text)?;
    if tokens.is_empty() {
        return Err(whole("it holds no token; a line is NAME SCOPE TOKEN".into()));
    }
    Ok((stamp, tokens))
}

fn parse(file: &str, text: &str) -> Result<Vec<Token>, Vec<Mistake>> {
    let (mut tokens, mut mistakes) = (Vec::<Token>::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let taken = token(text).and_then(|token| match tokens.iter().find(|t| t.name == token.name) {
            Some(_) => Err(format!("there are two tokens of the name {:?}", token.name)),
            None if tokens.len() >= TOKENS => Err(format!("there are more than {TOKENS} tokens")),
            None => Ok(token),
        });
        match taken {
            Ok(token) => tokens.push(token),
            Err(sentence) => mistakes.push(Mistake::new(&Origin::new(file, line), sentence)),
        }
    }
    if mistakes.is_empty() { Ok(tokens) } else { Err(mistakes) }
}

/// Reads a line. No sentence repeats a token.
fn token(line: &str) -> Result<Token, String> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(scope), Some(secret), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("a line is NAME SCOPE TOKEN, in three words".into());
    };
    names::check("token", name)?;
    let scopes = [Scope::Read, Scope::Change];
    let Some(scope) = scopes.into_iter().find(|known| known.word() == scope) else {
        return Err(format!(
            "token {name:?}: unknown scope {scope:?}{}",
            names::hint(scope, scopes.map(Scope::word))
        ));
    };
    let digest = match secret.strip_prefix("sha256:") {
        Some(digits) => from_hexadecimal(digits)
            .ok_or_else(|| format!("token {name:?}: after \"sha256:\" 64 hexadecimal digits must stand"))?,
        None if secret.len() < TOKEN_BYTES_MIN => {
            return Err(format!(
                "token {name:?} has {} characters, at least {TOKEN_BYTES_MIN} are needed: openssl rand -hex 32 makes one",
                secret.len()
            ));
        }
        None => Sha256::digest(secret.as_bytes()).into(),
    };
    Ok(Token { name: name.to_owned(), scope, digest })
}

fn from_hexadecimal(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn file(folder: &Path, text: &str, mode: u32) -> PathBuf {
        let path = folder.join("tokens");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        path
    }

    #[test]
    fn every_mistake_has_its_line_and_none_tells_a_token() {
        let text = format!(
            "# who\nscreen read {SECRET}\nscreen change {SECRET}x\na cange {SECRET}\nb read short\nc read\nd read sha256:12\n"
        );
        let mistakes = parse("tokens", &text).expect_err("mistakes");
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "tokens:3: there are two tokens of the name \"screen\"",
                "tokens:4: token \"a\": unknown scope \"cange\" (did you mean \"change\"?)",
                "tokens:5: token \"b\" has 5 characters, at least 32 are needed: openssl rand -hex 32 makes one",
                "tokens:6: a line is NAME SCOPE TOKEN, in three words",
                "tokens:7: token \"d\": after \"sha256:\" 64 hexadecimal digits must stand",
            ]
        );
        assert!(!told.join(" ").contains(SECRET));
    }

    #[test]
    fn a_token_is_known_by_itself_or_by_its_digest_and_the_file_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let digest: String = Sha256::digest(b"another-secret-of-some-forty-characters")
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let path = file(folder.path(), &format!("a read {SECRET}\nb change sha256:{digest}\n"), 0o600);
        let tokens = Tokens::read(&path).expect("no mistake");
        assert_eq!(tokens.find(SECRET.as_bytes()), Ok(Some(("a".into(), Scope::Read))));
        let b = Some(("b".into(), Scope::Change));
        assert_eq!(tokens.find(b"another-secret-of-some-forty-characters"), Ok(b));
        for wrong in ["", "0123456789abcdef0123456789abcdeF", &digest, &format!("{SECRET} ")] {
            assert_eq!(tokens.find(wrong.as_bytes()), Ok(None));
        }
        file(folder.path(), &format!("b change sha256:{digest}\n"), 0o600);
        assert_eq!(tokens.find(SECRET.as_bytes()), Ok(None), "it was taken out");
        file(folder.path(), "b chang\n", 0o600);
        assert!(tokens.find(b"another-secret-of-some-forty-characters").is_err(), "who, cannot be said");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = file(folder.path(), &format!("a read {SECRET}\n"), 0o644);
        assert!(Tokens::read(&path).expect_err("refused")[0].sentence.contains("its mode is 644"));
    }
}
