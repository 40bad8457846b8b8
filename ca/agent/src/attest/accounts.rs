//! Names of users and groups, from the account files of this host.
//!
//! Called by `attest` for each attestation, so that a renamed account is seen at once. Only the files count: names that
//! live in a directory service give no selector. A missing file means that there are no names; any other failure is an
//! error, because fewer selectors than there are must never pass for all.

use std::{fs, io};

/// Both account files, as text.
#[derive(Debug)]
pub(crate) struct Names {
    users: String,
    groups: String,
}

impl Names {
    pub(crate) fn read() -> io::Result<Self> {
        Ok(Self { users: read("/etc/passwd")?, groups: read("/etc/group")? })
    }

    pub(crate) fn user(&self, uid: u32) -> Option<&str> {
        name_of(&self.users, uid)
    }

    pub(crate) fn group(&self, gid: u32) -> Option<&str> {
        name_of(&self.groups, gid)
    }
}

/// Both files are lines of `name:password:number:...`; the first line of a number gives its name.
fn name_of(text: &str, id: u32) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse::<u32>().ok()?;
        (number == id && !name.is_empty()).then_some(name)
    })
}

fn read(path: &str) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_number_gives_its_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:1000:1000::/:\nalias:x:1000:1000::/:\n:x:7:7::/:\n";
        assert_eq!(name_of(text, 0), Some("root"));
        assert_eq!(name_of(text, 1000), Some("web"));
        assert_eq!(name_of(text, 7), None);
        assert_eq!(name_of(text, 42), None);
    }
}
