//! The own SVID of an agent elsewhere, with its key and the bundle that goes with it, as one sealed file (AG-03, BN-06).
//!
//! `portcullis` reads it at the start and writes it before a new SVID is used; it is replaced as a whole. After a renewal
//! it holds two SVIDs, until the new one was used: whatever happens in between, one of them is good (RG-10).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Disk, Rng, UnixTime};
use base_store::seal::SealError;
use ca_identity::{SpiffeId, TrustDomain, X509Svid};

use crate::sealed::{self, Sealed};

const FILE: &str = "agent.svid";
/// First line of the sealed text.
const FIRST: &str = "portcullis agent svid 1";

/// Why there is no usable file.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// It, or the key that seals it, is not one that may be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It opens, and does not hold what it should.
    #[error("`{}` does not hold the SVID of an agent: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It cannot be written.
    #[error("`{}` cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What the file holds.
#[derive(Debug, Clone)]
pub struct Own {
    /// Newest first; one, or two while the newest was not used yet.
    svids: Vec<Arc<X509Svid>>,
    /// As a JWK Set.
    bundle: String,
}

impl Own {
    /// The first SVID of an agent.
    pub fn new(svid: X509Svid, bundle: String) -> Self {
        Self { svids: vec![Arc::new(svid)], bundle }
    }

    /// The bundle that was known last, as a JWK Set.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// The newest SVID.
    pub fn newest(&self) -> Option<&Arc<X509Svid>> {
        self.svids.first()
    }

    /// Whether there is an older one besides, because the newest was not used yet.
    pub fn has_older(&self) -> bool {
        self.svids.len() > 1
    }

    /// With a new SVID; the one in use stays until the new one was used.
    pub fn renewed(&self, svid: X509Svid) -> Self {
        let used = self.svids.last().cloned();
        let svids = std::iter::once(Arc::new(svid)).chain(used).collect();
        Self { svids, bundle: self.bundle.clone() }
    }

    /// With another bundle.
    pub fn with_bundle(&self, bundle: &str) -> Self {
        Self { svids: self.svids.clone(), bundle: bundle.to_owned() }
    }

    /// Without older ones: the newest was used.
    pub fn used(&self) -> Self {
        Self { svids: self.svids.first().cloned().into_iter().collect(), bundle: self.bundle.clone() }
    }

    /// Without the newest, which the authority does not take.
    pub fn back(&self) -> Self {
        Self { svids: self.svids.get(1..).unwrap_or_default().to_vec(), bundle: self.bundle.clone() }
    }

    /// Without those that have ended.
    pub fn at(&self, now: UnixTime) -> Self {
        let svids = self.svids.iter().filter(|svid| svid.is_valid_at(now)).cloned().collect();
        Self { svids, bundle: self.bundle.clone() }
    }
}

/// Where it is kept.
#[derive(Debug)]
pub struct OwnFile {
    domain: TrustDomain,
    file: Sealed,
}

impl OwnFile {
    /// In that data directory, whose sealing key is made when there is none.
    ///
    /// # Errors
    /// When the sealing key cannot be used.
    pub fn open(
        data_dir: &Path,
        domain: &TrustDomain,
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, OwnError> {
        let context = format!("portcullis agent svid v1 {domain}");
        Ok(Self { domain: domain.clone(), file: Sealed::open(data_dir, (FILE, FIRST), context, disk, rng)? })
    }

    /// What was kept; none when this host was no agent yet.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn load(&self) -> Result<Option<Own>, OwnError> {
        self.file.load(|parts| {
            let (bundle, parts) = parts.split_first().ok_or("the bundle is missing")?;
            let svids = parts.iter().map(|part| {
                let svid = sealed::svid(part)?;
                match is_agent(&svid.id, &self.domain) {
                    true => Ok(Arc::new(svid)),
                    false => Err(format!("`{}` is no agent of `{}`", svid.id, self.domain)),
                }
            });
            let svids: Vec<_> = svids.collect::<Result<_, _>>()?;
            if svids.is_empty() {
                return Err("the SVID is missing".to_owned());
            }
            Ok(Own { svids, bundle: (*bundle).to_owned() })
        })
    }

    /// Puts that in place of what was kept; durable when it returns.
    ///
    /// # Errors
    /// When the disk fails; what was kept stays.
    pub fn save(&self, own: &Own) -> Result<(), OwnError> {
        self.file.save(&own.bundle, &own.svids)
    }
}

/// Whether that is the identity of an agent of the trust domain.
pub fn is_agent(id: &SpiffeId, domain: &TrustDomain) -> bool {
    id.is_member_of(domain) && id.path().starts_with("/portcullis/agent/")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base_ports::{MemoryDisk, SeededRng, Survive};
    use ca_identity::testing::{TestCa, now};

    use super::*;

    fn file(disk: &MemoryDisk) -> OwnFile {
        let domain = TrustDomain::parse("example.org").unwrap();
        OwnFile::open(Path::new("/data"), &domain, Arc::new(disk.clone()), Arc::new(SeededRng::new(1)))
            .unwrap()
    }

    fn svid(ca: &TestCa) -> X509Svid {
        ca.svid("/portcullis/agent/join_token/1")
    }

    #[test]
    fn ag_03_the_svid_in_use_stays_until_the_new_one_was_used() {
        let (ca, disk) = (TestCa::new("example.org", now()), MemoryDisk::new());
        let (file, document) = (file(&disk), ca.bundle().to_jwks());
        assert!(file.load().unwrap().is_none(), "this host was no agent yet");
        let first = Own::new(svid(&ca), document.clone());
        file.save(&first).unwrap();
        let serial = |own: &Own| own.newest().unwrap().serial.clone();
        let read = file.load().unwrap().unwrap();
        assert_eq!((serial(&read), read.bundle == document, read.has_older()), (serial(&first), true, false));

        let renewed = first.renewed(svid(&ca));
        file.save(&renewed).unwrap();
        let read = file.load().unwrap().unwrap();
        assert!(
            read.has_older() && serial(&read) == serial(&renewed) && serial(&read.back()) == serial(&first)
        );
        // A renewal that was not used either is forgotten, the one in use is not.
        let again = read.renewed(svid(&ca));
        assert_eq!(serial(&again.back()), serial(&first));
        file.save(&again.used()).unwrap();
        let read = file.load().unwrap().unwrap();
        assert!(!read.has_older() && serial(&read) == serial(&again));
        assert!(read.at(now() + Duration::from_secs(7_200)).newest().is_none(), "it has ended");
    }

    #[test]
    fn rg_10_a_crash_at_any_moment_of_a_renewal_leaves_an_svid_that_was_there() {
        let ca = TestCa::new("example.org", now());
        let first = Own::new(svid(&ca), ca.bundle().to_jwks());
        let renewed = first.renewed(svid(&ca));
        for (before, next) in [(&first, &renewed), (&renewed, &renewed.used())] {
            for survive in [Survive::Nothing, Survive::Everything, Survive::Sectors(7)] {
                for changes in 0..8 {
                    let disk = MemoryDisk::new();
                    file(&disk).save(before).unwrap();
                    disk.lose_power(Survive::Everything);
                    let file_before = file(&disk);
                    disk.die_after(changes);
                    let saved = file_before.save(next).is_ok();
                    disk.revive();
                    disk.lose_power(survive);
                    let kept = file(&disk).load().unwrap().unwrap();
                    let serials =
                        |own: &Own| own.svids.iter().map(|svid| svid.serial.clone()).collect::<Vec<_>>();
                    let is_one = [before, next].iter().any(|own| serials(own) == serials(&kept));
                    assert!(is_one, "{survive:?} after {changes} changes");
                    assert!(!saved || serials(&kept) == serials(next), "{survive:?} after {changes} changes");
                }
            }
        }
    }

    #[test]
    fn bn_06_the_key_of_an_agent_is_sealed_and_opens_nowhere_else() {
        let (ca, disk) = (TestCa::new("example.org", now()), MemoryDisk::new());
        let own = Own::new(svid(&ca), ca.bundle().to_jwks());
        file(&disk).save(&own).unwrap();
        let bytes = disk.read(Path::new("/data/agent.svid")).unwrap();
        assert!(!bytes.windows(11).any(|window| window == b"PRIVATE KEY"));
        let other = TrustDomain::parse("other.org").unwrap();
        let rng = Arc::new(SeededRng::new(1));
        let other = OwnFile::open(Path::new("/data"), &other, Arc::new(disk.clone()), rng).unwrap();
        assert!(matches!(other.load(), Err(OwnError::Seal(_))));
        file(&disk).save(&Own::new(ca.svid("/web"), ca.bundle().to_jwks())).unwrap();
        assert!(matches!(file(&disk).load(), Err(OwnError::Content { .. })), "no workload is an agent");
    }
}
