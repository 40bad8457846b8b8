//! One process, held by a handle of its `/proc` directory.
//!
//! The handle names the process, not its number: once the process has ended, every read through it fails, whoever has
//! the number by then. With the start time it is checked before and after each reading (WL-01). Called by `attest`;
//! refuses what it cannot read completely.

use std::{fs::File, io, io::Read as _, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

/// More than any of the files read here has.
const FILE_LIMIT: u64 = 64 * 1024;

/// A held process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    directory: OwnedFd,
    started: u64,
}

/// Why a process could not be looked at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProcessError {
    /// It has ended.
    #[error("the calling process has ended")]
    Gone,
    /// It is not what connected any more, or is younger than the connection.
    #[error("process {pid} is not the one that connected: {what} differs")]
    Changed {
        /// Its number.
        pid: i32,
        /// What differs.
        what: &'static str,
    },
    /// The kernel does not let us look.
    #[error("`/proc/{pid}/{file}` cannot be read")]
    Hidden {
        /// Its number.
        pid: i32,
        /// What was to be read.
        file: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// The kernel's text was not understood.
    #[error("`/proc/{pid}/{file}` is not in the known form")]
    Malformed {
        /// Its number.
        pid: i32,
        /// What was read.
        file: &'static str,
    },
    /// `/etc/passwd` or `/etc/group` could not be read.
    #[error("the account files cannot be read: {reason}")]
    Accounts {
        /// The system's answer.
        reason: String,
    },
}

impl ProcessError {
    /// Trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Hidden { source, .. } => !matches!(*source, Errno::ACCESS | Errno::PERM),
            Self::Accounts { .. } => true,
            Self::Gone | Self::Changed { .. } | Self::Malformed { .. } => false,
        }
    }

    pub(crate) fn accounts(error: io::Error) -> Self {
        Self::Accounts { reason: error.to_string() }
    }
}

impl Process {
    /// Takes hold of the process that has this number now.
    pub(crate) fn pin(pid: i32) -> Result<Self, ProcessError> {
        let accepted = boot_ticks();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())
            .map_err(|errno| failure(pid, "", errno))?;
        let mut process = Self { pid, directory, started: 0 };
        process.started = process.start()?;
        if process.started > accepted {
            return Err(ProcessError::Changed { pid, what: "start time" });
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Alive, the same process, still the same user. Returns its supplementary groups.
    pub(crate) fn check(&self, uid: u32) -> Result<Vec<u32>, ProcessError> {
        let changed = |what| ProcessError::Changed { pid: self.pid, what };
        if self.start()? != self.started {
            return Err(changed("start time"));
        }
        let (effective, groups) = parse_status(&self.read("status")?)
            .ok_or(ProcessError::Malformed { pid: self.pid, file: "status" })?;
        if effective != uid {
            return Err(changed("user"));
        }
        Ok(groups)
    }

    /// Effective user and group, as a connection of it would tell them now.
    pub(crate) fn owner(&self) -> Result<(u32, u32), ProcessError> {
        parse_owner(&self.read("status")?).ok_or(ProcessError::Malformed { pid: self.pid, file: "status" })
    }

    /// The program file, when our own file tree shows that very file under that path: a path of a container or of
    /// another mount namespace says nothing here, and neither does one whose file was replaced or deleted.
    pub(crate) fn path(&self) -> Result<Option<String>, ProcessError> {
        let failed = |errno| failure(self.pid, "exe", errno);
        let link = rustix::fs::readlinkat(&self.directory, "exe", Vec::new()).map_err(failed)?;
        let running = rustix::fs::statat(&self.directory, "exe", AtFlags::empty()).map_err(failed)?;
        let Ok(path) = std::str::from_utf8(link.as_bytes()) else { return Ok(None) };
        let shown = std::path::Path::new(path);
        let same = shown.is_absolute()
            && rustix::fs::stat(shown)
                .is_ok_and(|file| (file.st_dev, file.st_ino) == (running.st_dev, running.st_ino));
        Ok(same.then(|| path.to_owned()))
    }

    fn start(&self) -> Result<u64, ProcessError> {
        match parse_stat(&self.read("stat")?) {
            Some(('Z' | 'X', _)) => Err(ProcessError::Gone),
            Some((_, started)) => Ok(started),
            None => Err(ProcessError::Malformed { pid: self.pid, file: "stat" }),
        }
    }

    fn read(&self, file: &'static str) -> Result<String, ProcessError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let descriptor = rustix::fs::openat(&self.directory, file, flags, Mode::empty())
            .map_err(|errno| failure(self.pid, file, errno))?;
        let mut bytes = Vec::new();
        File::from(descriptor)
            .take(FILE_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|error| failure(self.pid, file, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn failure(pid: i32, file: &'static str, errno: Errno) -> ProcessError {
    match errno {
        Errno::NOENT | Errno::SRCH => ProcessError::Gone,
        source => ProcessError::Hidden { pid, file, source },
    }
}

/// Ticks since boot, the unit of start times in `/proc/<pid>/stat`.
fn boot_ticks() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let hertz = rustix::param::clock_ticks_per_second();
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let part = u64::try_from(now.tv_nsec).unwrap_or(0).saturating_mul(hertz) / 1_000_000_000;
    seconds.saturating_mul(hertz).saturating_add(part)
}

/// State and start time. The program's name stands in parentheses and may hold anything, so reading starts behind the
/// last one.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Effective user and group ids.
fn parse_owner(text: &str) -> Option<(u32, u32)> {
    let effective = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// Effective user id and supplementary groups.
fn parse_status(text: &str) -> Option<(u32, Vec<u32>)> {
    let numbers =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::split_ascii_whitespace);
    let effective = numbers("Uid:")?.nth(1)?.parse().ok()?;
    let groups = numbers("Groups:")?.map(|number| number.parse().ok()).collect::<Option<_>>()?;
    Some((effective, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1000 2000 18446744073709551615";

    #[test]
    fn wl_01_a_program_name_with_parentheses_does_not_shift_the_start_time() {
        assert_eq!(parse_stat(STAT), Some(('S', 4242)));
    }

    #[test]
    fn texts_that_are_cut_short_are_not_understood() {
        assert_eq!(parse_stat(""), None);
        assert_eq!(parse_stat("7 (a S 1 7"), None);
        assert_eq!(parse_stat("7 (a) S 1 7 7"), None);
        assert_eq!(parse_status("Name:\tx\nUid:\t0\n"), None);
        assert_eq!(parse_status("Uid:\t0\t0\t0\t0\n"), None);
        assert_eq!(parse_status("Uid:\t0\t0\t0\t0\nGroups:\t1 x\n"), None);
    }

    #[test]
    fn the_effective_user_and_all_groups_are_read() {
        let text = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 20 \n";
        assert_eq!(parse_status(text), Some((2, vec![10, 20])));
        assert_eq!((parse_owner(text), parse_owner("Uid:\t1\t2\n")), (Some((2, 6)), None));
        assert_eq!(parse_status("Uid:\t1\t2\t3\t4\nGroups:\t\n"), Some((2, vec![])));
    }

    #[test]
    fn wl_02_a_hidden_process_is_refused_for_good_and_a_busy_system_is_not() {
        assert!(!failure(1, "exe", Errno::ACCESS).is_transient());
        assert!(failure(1, "stat", Errno::MFILE).is_transient());
        assert!(matches!(failure(1, "stat", Errno::SRCH), ProcessError::Gone));
    }
}
