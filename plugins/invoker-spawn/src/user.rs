//! Looks a user up: numbers for the launcher, which knows no names.

use std::ffi::CString;

/// Who a function runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// All its groups.
    pub groups: Vec<u32>,
}

const BUFFER_BYTES: usize = 16 * 1024;
const GROUPS_MAX: usize = 64;

impl User {
    /// A user by name or number.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn find(text: &str) -> Result<User, String> {
        let unknown = || format!("user = {text:?} is no user of this machine");
        let name = CString::new(text).map_err(|_| unknown())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut found = std::ptr::null_mut();
        // SAFETY: all zeros is a valid value of this plain struct.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let number = text.parse::<u32>().ok();
        // SAFETY: all pointers are to live memory of the length given.
        unsafe {
            let (entry, start, found) = (&raw mut entry, buffer.as_mut_ptr(), &raw mut found);
            match number {
                Some(uid) => libc::getpwuid_r(uid, entry, start, BUFFER_BYTES, found),
                None => libc::getpwnam_r(name.as_ptr(), entry, start, BUFFER_BYTES, found),
            }
        };
        if found.is_null() {
            // A number needs no entry.
            return number.map(|uid| User { uid, gid: uid, groups: vec![uid] }).ok_or_else(unknown);
        }
        let mut groups = vec![0; GROUPS_MAX];
        let mut count = GROUPS_MAX as i32;
        // SAFETY: the entry's name is a text in the buffer; the list has room for `count` numbers.
        let listed =
            unsafe { libc::getgrouplist(entry.pw_name, entry.pw_gid, groups.as_mut_ptr(), &raw mut count) };
        if listed < 0 {
            return Err(format!("user = {text:?} is in more than {GROUPS_MAX} groups"));
        }
        groups.truncate(count.max(0) as usize);
        Ok(User { uid: entry.pw_uid, gid: entry.pw_gid, groups })
    }
}

#[cfg(test)]
mod tests {
    use super::User;

    #[test]
    fn a_user_is_found_by_name_and_number_or_refused() {
        let root = User::find("root").expect("every machine has it");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(User::find("0"), Ok(root));
        assert_eq!(User::find("54321").map(|user| user.uid), Ok(54321));
        assert_eq!(
            User::find("no such user"),
            Err("user = \"no such user\" is no user of this machine".into())
        );
    }
}
