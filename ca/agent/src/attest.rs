//! Unix attestation: from the peer credentials of an accepted connection to selectors.
//!
//! `portcullis` calls [`Caller::pin`] right after the accept and inserts the value into each request of the connection;
//! `service` calls [`Caller::selectors`] for each request and again before each push, so an exec, a changed user or an
//! exit in between is seen (WL-03). It refuses instead of answering with fewer selectors: a caller without a process,
//! from another namespace, gone, replaced, or hidden from us (WL-02).

mod accounts;
mod process;

use std::sync::Arc;

use ca_identity::Selector;

use process::Process;
pub use process::ProcessError;

/// The kernel's answer for a user or process that has no number in our namespace.
const OVERFLOW_ID: u32 = 65_534;

/// The process at the other end of a Unix connection, held so that its number cannot come to mean another one.
#[derive(Debug, Clone)]
pub struct Caller {
    uid: u32,
    gid: u32,
    process: Arc<Result<Process, ProcessError>>,
}

/// Why a caller has no selectors.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AttestError {
    /// The kernel named no process, or one outside our namespaces.
    #[error("the caller is not a process of this host that can be named")]
    Foreign,
    /// The process could not be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl AttestError {
    /// Trying again can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Process(error) if error.is_transient())
    }
}

impl Caller {
    /// Takes hold of the process behind peer credentials. Call it right after the accept; what is wrong with the
    /// process is told by [`Caller::selectors`].
    pub fn pin(uid: u32, gid: u32, pid: Option<i32>) -> Self {
        let process = pid.filter(|pid| *pid > 0).map_or(Err(ProcessError::Gone), Process::pin);
        Self { uid, gid, process: Arc::new(process) }
    }

    /// The process of that number, as if it connected now. For explaining only: a number says nothing about who asks.
    ///
    /// # Errors
    /// When there is no such process, or the kernel hides it.
    pub fn named(pid: i32) -> Result<Self, AttestError> {
        let (uid, gid) = Process::pin(pid)?.owner()?;
        Ok(Self::pin(uid, gid, Some(pid)))
    }

    /// User id at the time of the connect.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Group id at the time of the connect.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Process id, where the kernel named one.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().as_ref().ok().map(Process::pid)
    }

    /// All selectors of the process as it is now (WL-04). Reads `/proc` and the account files, so it blocks briefly.
    pub fn selectors(&self) -> Result<Vec<Selector>, AttestError> {
        let process = match self.process.as_ref() {
            Ok(process) => process,
            Err(ProcessError::Gone) => return Err(AttestError::Foreign),
            Err(error) => return Err(error.clone().into()),
        };
        if self.uid == OVERFLOW_ID {
            return Err(AttestError::Foreign);
        }
        let groups = process.check(self.uid)?;
        let names = accounts::Names::read().map_err(ProcessError::accounts)?;
        let path = process.path()?;
        process.check(self.uid)?;

        let mut found = vec![format!("unix:uid:{}", self.uid), format!("unix:gid:{}", self.gid)];
        found.extend(names.user(self.uid).map(|name| format!("unix:user:{name}")));
        found.extend(names.group(self.gid).map(|name| format!("unix:group:{name}")));
        for gid in groups {
            found.push(format!("unix:supplementary_gid:{gid}"));
            found.extend(names.group(gid).map(|name| format!("unix:supplementary_group:{name}")));
        }
        found.extend(path.map(|path| format!("unix:path:{path}")));
        Ok(found.iter().filter_map(|text| Selector::parse(text).ok()).collect())
    }
}

#[cfg(test)]
mod passed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::own_caller as own;

    fn has(selectors: &[Selector], text: &str) -> bool {
        selectors.contains(&Selector::parse(text).unwrap())
    }

    #[test]
    fn wl_04_uid_gid_and_path_of_a_caller_become_selectors() {
        let caller = own();
        let selectors = caller.selectors().unwrap();
        let exe = std::fs::read_link("/proc/self/exe").unwrap();

        assert!(has(&selectors, &format!("unix:uid:{}", caller.uid())));
        assert!(has(&selectors, &format!("unix:gid:{}", caller.gid())));
        assert!(has(&selectors, &format!("unix:path:{}", exe.display())));
        if caller.uid() == 0 {
            assert!(has(&selectors, "unix:user:root"));
            assert!(has(&selectors, "unix:group:root"));
        }
    }

    #[test]
    fn en_06_a_process_is_looked_at_by_its_number_as_if_it_called() {
        let (named, caller) = (Caller::named(std::process::id().cast_signed()).unwrap(), own());
        assert_eq!((named.uid(), named.gid()), (caller.uid(), caller.gid()));
        assert_eq!(named.selectors().unwrap(), caller.selectors().unwrap());
        assert!(matches!(Caller::named(i32::MAX), Err(AttestError::Process(ProcessError::Gone))));
    }

    #[test]
    fn wl_02_a_caller_without_process_or_from_another_namespace_is_refused() {
        for caller in [Caller::pin(1, 1, None), Caller::pin(1, 1, Some(0)), Caller::pin(1, 1, Some(-1))] {
            let error = caller.selectors().unwrap_err();
            assert!(matches!(error, AttestError::Foreign));
            assert!(!error.is_transient());
        }
        let own = own();
        let overflow = Caller { uid: OVERFLOW_ID, ..own };
        assert!(matches!(overflow.selectors(), Err(AttestError::Foreign)));
    }

    #[test]
    fn wl_01_a_caller_whose_user_is_not_the_one_that_connected_is_refused() {
        let own = own();
        let other = Caller { uid: own.uid + 1, ..own };
        assert!(matches!(other.selectors(), Err(AttestError::Process(ProcessError::Changed { .. }))));
    }

    #[test]
    fn threat_wa2_a_process_that_ended_is_refused_and_its_number_cannot_be_inherited() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let caller = Caller::pin(own().uid(), own().gid(), Some(child.id().cast_signed()));
        assert!(caller.selectors().is_ok());

        child.kill().unwrap();
        child.wait().unwrap();

        assert!(caller.selectors().is_err());
    }

    #[test]
    fn wl_03_an_exec_after_the_connect_changes_the_selectors() {
        use std::io::Write as _;
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line; exec sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let caller = Caller::pin(own().uid(), own().gid(), Some(child.id().cast_signed()));
        let sleep = std::fs::canonicalize("/usr/bin/sleep").unwrap();
        let text = format!("unix:path:{}", sleep.display());
        let wait_for = |wanted: bool| {
            for _ in 0..200 {
                if caller.selectors().is_ok_and(|found| has(&found, &text) == wanted && found.len() > 2) {
                    return true;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            false
        };
        assert!(wait_for(false));

        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let seen = wait_for(true);
        child.kill().unwrap();
        child.wait().unwrap();

        assert!(seen);
    }

    #[test]
    fn threat_wa4_a_path_whose_file_is_another_one_gives_no_path_selector() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().canonicalize().unwrap().join("web");
        std::fs::copy("/usr/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let caller = Caller::pin(own().uid(), own().gid(), Some(child.id().cast_signed()));
        let text = format!("unix:path:{}", program.display());
        assert!(has(&caller.selectors().unwrap(), &text));

        // The kernel now shows the running file as `web (deleted)`; a file may be planted under that very name.
        std::fs::remove_file(&program).unwrap();
        std::fs::write(program.with_file_name("web (deleted)"), b"planted").unwrap();
        let selectors = caller.selectors();
        child.kill().unwrap();
        child.wait().unwrap();

        let found: Vec<String> = selectors.unwrap().iter().map(|found| found.as_str().to_owned()).collect();
        assert!(!found.iter().any(|found| found.starts_with("unix:path:")), "{found:?}");
        assert!(found.iter().any(|found| found.starts_with("unix:uid:")));
    }
}
