//! Who may do what. Deciding is pure; finding out who calls is the part of `caller`, `tokens` and `tls`.

use std::net::IpAddr;

use tempos_control::Who;

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Everyone who reaches the Unix socket; over TCP a token of the scope `read`.
    Read,
    /// root, the daemon's own user and the members of its group; over TCP a token of the scope `change`.
    Change,
    /// root and the daemon's own user, over the Unix socket only.
    Own,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To look.
    Read,
    /// To look and to give orders.
    Change,
}

impl Scope {
    /// The word of the token file.
    pub const fn word(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Change => "change",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A process of this machine.
    Local {
        /// Its user.
        uid: u32,
        /// Its number, where the kernel says it.
        process: Option<u32>,
        /// All its groups.
        gids: Vec<u32>,
    },
    /// Somebody who showed a token.
    Token {
        /// The token's name.
        name: String,
        /// Its scope.
        scope: Scope,
        /// Where from.
        from: IpAddr,
    },
    /// Somebody with a certificate of the authority that the node trusts, where no tokens are asked for.
    Certificate {
        /// Where from.
        from: IpAddr,
    },
}

impl Caller {
    /// Who this is, for the node's account of changes.
    pub fn who(&self) -> Who {
        let who = Who::at("rest");
        match self {
            Caller::Local { uid, process, .. } => Who { user: Some(*uid), process: *process, ..who },
            Caller::Token { name, from, .. } => Who { name: Some(format!("{name} from {from}")), ..who },
            Caller::Certificate { from } => Who { name: Some(format!("a certificate from {from}")), ..who },
        }
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Caller::Local { uid, .. } => write!(f, "user {uid}"),
            Caller::Token { name, from, .. } => write!(f, "token {name:?} from {from}"),
            Caller::Certificate { from } => write!(f, "the certificate from {from}"),
        }
    }
}

/// Whom the daemon trusts.
#[derive(Clone, Debug)]
pub struct House {
    /// The daemon's own user.
    pub own_uid: u32,
    /// The group whose members may give orders: its name, and its number where it exists.
    pub group: Option<(String, Option<u32>)>,
}

impl House {
    /// Whether this user may do everything.
    pub fn owns(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own_uid
    }

    /// Decides. `verb` is the word that the other doors have for it.
    ///
    /// # Errors
    /// One sentence that says who may.
    pub fn decide(&self, caller: &Caller, right: Right, verb: &str) -> Result<(), String> {
        let who = match right {
            Right::Own => "only root and the daemon's user may, over the Unix socket".into(),
            _ => match (caller, &self.group) {
                (Caller::Token { scope, .. }, _) => {
                    format!("its scope is {:?}, {:?} is needed", scope.word(), Scope::Change.word())
                }
                (_, Some((name, Some(_)))) => {
                    format!("only root, the daemon's user and members of the group {name:?} may")
                }
                (_, Some((name, None))) => {
                    format!("only root and the daemon's user (there is no group {name:?} on this system) may")
                }
                (_, None) => "only root and the daemon's user may".into(),
            },
        };
        if self.allows(caller, right) { Ok(()) } else { Err(format!("{caller} may not call {verb}: {who}")) }
    }

    fn allows(&self, caller: &Caller, right: Right) -> bool {
        match (caller, right) {
            (_, Right::Read) => true,
            (Caller::Local { uid, gids, .. }, Right::Change) => {
                let group = self.group.as_ref().and_then(|(_, gid)| *gid);
                self.owns(*uid) || group.is_some_and(|gid| gids.contains(&gid))
            }
            (Caller::Local { uid, .. }, Right::Own) => self.owns(*uid),
            (Caller::Token { scope, .. }, Right::Change) => *scope == Scope::Change,
            (Caller::Certificate { .. }, Right::Change) => true,
            (Caller::Token { .. } | Caller::Certificate { .. }, Right::Own) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn rights_are_as_written() {
        let house = House { own_uid: 998, group: Some(("tempos".into(), Some(500))) };
        let local = |uid, gids: &[u32]| Caller::Local { uid, process: None, gids: gids.to_vec() };
        let token = |scope| Caller::Token { name: "t".into(), scope, from: FROM };
        for (who, change, own) in [
            (local(0, &[0]), true, true),
            (local(998, &[998]), true, true),
            (local(1000, &[1000, 500]), true, false),
            (local(1000, &[1000]), false, false),
            (token(Scope::Change), true, false),
            (token(Scope::Read), false, false),
            (Caller::Certificate { from: FROM }, true, false),
        ] {
            assert!(house.decide(&who, Right::Read, "Get").is_ok());
            assert_eq!(house.decide(&who, Right::Change, "Publish").is_ok(), change, "{who:?}");
            assert_eq!(house.decide(&who, Right::Own, "LoadPlugin").is_ok(), own, "{who:?}");
        }
    }

    #[test]
    fn a_refusal_says_who_may() {
        let house = House { own_uid: 998, group: Some(("tempos".into(), Some(500))) };
        let stranger = Caller::Local { uid: 1000, process: Some(7), gids: vec![] };
        assert_eq!(
            house.decide(&stranger, Right::Change, "Publish").expect_err("refused"),
            "user 1000 may not call Publish: only root, the daemon's user and members of the group \"tempos\" may"
        );
        let token = Caller::Token { name: "screen".into(), scope: Scope::Read, from: FROM };
        assert_eq!(
            house.decide(&token, Right::Change, "Publish").expect_err("refused"),
            "token \"screen\" from 127.0.0.1 may not call Publish: its scope is \"read\", \"change\" is needed"
        );
    }

    #[test]
    fn a_group_that_does_not_exist_has_no_members() {
        let house = House { own_uid: 998, group: Some(("tempos".into(), None)) };
        let caller = Caller::Local { uid: 1, process: None, gids: vec![0, 1] };
        assert!(house.decide(&caller, Right::Change, "Reload").is_err());
    }
}
