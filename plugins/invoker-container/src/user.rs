//! Who a function runs as: looked up in the container's own files, which are not to be trusted for more than that.

use crate::files::Root;

const GROUPS_MAX: usize = 64;

/// A user of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// All its groups.
    pub groups: Vec<u32>,
    /// Its home.
    pub home: String,
}

impl User {
    /// `USER` or `USER:GROUP`, by name or number, and groups beside; empty: root.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn find(root: &Root, text: &str, beside: &[String]) -> Result<User, String> {
        User::of(&root.text("/etc/passwd"), &root.text("/etc/group"), text, beside)
    }

    fn of(users: &str, groups: &str, text: &str, beside: &[String]) -> Result<User, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let number = user.parse::<u32>().ok();
        let entry = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|entry| {
            entry.len() > 5 && (entry[0] == user || (number.is_some() && entry[2].parse().ok() == number))
        });
        let group_of = |text: &str| {
            let found = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let found = found.into_iter().find(|entry| entry.len() > 2 && entry[0] == text);
            found.and_then(|entry| entry[2].parse::<u32>().ok()).or_else(|| text.parse().ok())
        };
        let known = |group: &str| {
            group_of(group).ok_or_else(|| format!("user = {text:?}: {group:?} is no group of the container"))
        };
        let (uid, own, home, name) = match &entry {
            Some(entry) => {
                let numbers = entry[2].parse().ok().zip(entry[3].parse().ok());
                let (uid, gid) = numbers
                    .ok_or_else(|| format!("the container's /etc/passwd has no numbers for {user:?}"))?;
                (uid, gid, entry[5], entry[0])
            }
            // A number needs no entry; its group is root's, as container engines have it.
            None => {
                let uid = number.ok_or_else(|| format!("user = {text:?} is no user of the container"))?;
                (uid, 0, "/", "")
            }
        };
        let gid = group.filter(|group| !group.is_empty()).map(known).transpose()?.unwrap_or(own);
        let mut all = vec![gid];
        if group.is_none() && !name.is_empty() {
            let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let member = fields.filter(|entry| entry.len() > 3 && entry[3].split(',').any(|who| who == name));
            all.extend(member.filter_map(|entry| entry[2].parse::<u32>().ok()));
        }
        for group in beside {
            all.push(known(group)?);
        }
        all.sort_unstable();
        all.dedup();
        if all.len() > GROUPS_MAX {
            return Err(format!("user = {text:?} is in more than {GROUPS_MAX} groups"));
        }
        let home = if home.starts_with('/') { home } else { "/" };
        Ok(User { uid, gid, groups: all, home: home.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::User;

    #[test]
    fn a_user_is_found_by_the_containers_files_alone() {
        let users =
            "root:x:0:0::/root:/bin/sh\nbroken\npress:x:1000:1000::/home/press:/bin/sh\nbad:x:y:z::/:\n";
        let groups = "root:x:0:\npress:x:1000:\nvideo:x:44:other,press\nplug:x:46:press\n";
        let find = |text: &str| User::of(users, groups, text, &[]);
        let user = |uid, gid, groups: &[u32], home: &str| {
            Ok(User { uid, gid, groups: groups.to_vec(), home: home.into() })
        };
        assert_eq!(find(""), user(0, 0, &[0], "/root"));
        assert_eq!(find("press"), user(1000, 1000, &[44, 46, 1000], "/home/press"));
        assert_eq!(find("1000"), find("press"));
        assert_eq!(find("press:video"), user(1000, 44, &[44], "/home/press"));
        assert_eq!(find("press:7"), user(1000, 7, &[7], "/home/press"));
        assert_eq!(find("4321"), user(4321, 0, &[0], "/"));
        assert_eq!(User::of(users, groups, "4321", &["video".into()]), user(4321, 0, &[0, 44], "/"));
        for wrong in ["nobody", "press:nobodies", "bad", "-1"] {
            assert!(find(wrong).is_err(), "{wrong}");
        }
    }
}
