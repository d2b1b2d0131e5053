//! Who may do what. Deciding is pure; finding out who calls is `caller`'s part.

use tempos_control::Who;

use crate::face::Right;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// All groups of the calling process.
    pub gids: Vec<u32>,
    /// The calling process, where it is known. It only helps to tell callers apart: a number may come again.
    pub pid: Option<u32>,
}

impl Caller {
    /// Who that is for the node's account of changes.
    pub fn who(&self, door: &str, name: Option<&str>) -> Who {
        Who { user: Some(self.uid), process: self.pid, name: name.map(str::to_owned), ..Who::at(door) }
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

    /// Decides.
    ///
    /// # Errors
    /// One sentence that says who may.
    pub fn decide(&self, caller: &Caller, right: Right, verb: &str) -> Result<(), String> {
        let member =
            self.group.as_ref().and_then(|(_, gid)| *gid).is_some_and(|gid| caller.gids.contains(&gid));
        let allowed = match right {
            Right::Anyone => true,
            Right::Operator => member || self.owns(caller.uid),
            Right::Owner => self.owns(caller.uid),
        };
        if allowed {
            return Ok(());
        }
        let who = match (right, &self.group) {
            (Right::Operator, Some((name, Some(_)))) => {
                format!("root, the daemon's user and members of the group {name:?}")
            }
            (Right::Operator, Some((name, None))) => {
                format!("root and the daemon's user (there is no group {name:?} on this system)")
            }
            _ => "root and the daemon's user".into(),
        };
        Err(format!("user {} may not call {verb}: only {who} may", caller.uid))
    }
}

/// The polkit action of a verb: `LoadPlugin` is `org.tempos.host1.load-plugin`.
pub fn polkit_action(verb: &str) -> String {
    let mut action = String::from("org.tempos.host1.");
    for (at, c) in verb.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            action.push('-');
        }
        action.push(c.to_ascii_lowercase());
    }
    action
}

#[cfg(test)]
mod tests {
    use tempos_control::Kind;

    use super::*;

    #[test]
    fn rights_are_as_written() {
        let house = House { own_uid: 998, group: Some(("tempos".into(), Some(500))) };
        let caller = |uid, gids: &[u32]| Caller { uid, gids: gids.to_vec(), pid: None };
        for (who, operator, owner) in [
            (caller(0, &[0]), true, true),
            (caller(998, &[998]), true, true),
            (caller(1000, &[1000, 500]), true, false),
            (caller(1000, &[1000]), false, false),
        ] {
            assert!(house.decide(&who, Right::Anyone, "Doctor").is_ok());
            assert_eq!(house.decide(&who, Right::Operator, "Publish").is_ok(), operator, "{who:?}");
            assert_eq!(house.decide(&who, Right::Owner, "LoadPlugin").is_ok(), owner, "{who:?}");
        }
        let sentence = house.decide(&caller(1000, &[]), Right::Operator, "Publish").expect_err("refused");
        assert_eq!(
            sentence,
            "user 1000 may not call Publish: only root, the daemon's user and members of the group \"tempos\" may"
        );
    }

    #[test]
    fn a_group_that_does_not_exist_has_no_members() {
        let house = House { own_uid: 998, group: Some(("tempos".into(), None)) };
        assert!(
            house.decide(&Caller { uid: 1, gids: vec![0, 1], pid: None }, Right::Operator, "Reload").is_err()
        );
    }

    /// The verbs of every interface of the node.
    fn verbs() -> Vec<&'static crate::face::Method> {
        let kinds = [
            Kind::Node,
            Kind::QosLevel,
            Kind::Plugin,
            Kind::Adapter,
            Kind::Channel,
            Kind::Topic,
            Kind::Workflow,
        ];
        kinds.into_iter().flat_map(|kind| crate::face::of(kind).methods).collect()
    }

    #[test]
    fn every_privileged_verb_has_its_polkit_action() {
        let policy = include_str!("../org.tempos.Host1.policy");
        let actions: Vec<&str> = policy.split("<action id=\"").skip(1).collect();
        let privileged: Vec<_> = verbs().into_iter().filter(|m| m.right != Right::Anyone).collect();
        assert_eq!(actions.len(), privileged.len(), "an action is there for nothing");
        for method in privileged {
            let action = polkit_action(method.name);
            let head = format!("{action}\">");
            let of: Vec<_> = actions.iter().filter(|text| text.starts_with(&head)).collect();
            assert_eq!(of.len(), 1, "{} has {} actions {action:?}", method.name, of.len());
            for part in ["<description>", "<message>", "</action>"] {
                assert!(of[0].contains(part), "{action}: {part}");
            }
            // Whoever is not root or a member of the group has to show that an administrator lets him.
            for place in ["any", "inactive", "active"] {
                let asked = format!("<allow_{place}>auth_admin");
                assert!(of[0].contains(&asked), "{action}: {place}");
            }
        }
    }

    #[test]
    fn the_bus_policy_lets_every_verb_through_to_the_daemon() {
        let policy = include_str!("../org.tempos.Host1.conf");
        let verbs: Vec<&str> = verbs().into_iter().map(|method| method.name).collect();
        let lines = policy.lines().filter(|line| line.contains("send_interface=\"org.tempos.Host1."));
        let passed: Vec<&str> = lines
            .map(|line| {
                line.split("send_member=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or(line)
            })
            .collect();
        for verb in &verbs {
            assert!(passed.contains(verb), "{verb} does not reach the daemon");
        }
        for verb in passed {
            assert!(verbs.contains(&verb), "{verb} is passed to the daemon, which has no such verb");
        }
    }
}
