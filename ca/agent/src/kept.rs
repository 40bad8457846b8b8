//! The SVID of a gateway beside its agent, and what was denied when it was written, as one sealed file: a restart while
//! the authority is away goes on with both, until the SVID ends (RV-08).
//!
//! It gives nobody more than the file of the agent does, which has this SVID signed at any time. `portcullis` reads it at the
//! start and writes it whenever one of the two is new.

use std::path::Path;
use std::sync::Arc;

use base_ports::{Disk, Rng};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_identity::{MARK, RevocationSet, SpiffeId, X509Svid};

use crate::own::OwnError;
use crate::sealed::{self, Sealed};

const FILE: &str = "gateway.svid";
/// First line of the sealed text.
const FIRST: &str = "portcullis gateway svid 1";

/// What the file holds.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The SVID of the gateway.
    pub svid: Arc<X509Svid>,
    /// What was denied.
    pub denied: RevocationSet,
}

/// Where it is kept.
#[derive(Debug)]
pub struct KeptFile {
    id: SpiffeId,
    file: Sealed,
}

impl KeptFile {
    /// For the gateway of that identity in that data directory, whose sealing key is made when there is none.
    ///
    /// # Errors
    /// When the sealing key cannot be used.
    pub fn open(
        data_dir: &Path,
        id: &SpiffeId,
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, OwnError> {
        let context = format!("portcullis gateway svid v1 {id}");
        Ok(Self { id: id.clone(), file: Sealed::open(data_dir, (FILE, FIRST), context, disk, rng)? })
    }

    /// What was kept; none before the first time.
    ///
    /// # Errors
    /// When the file cannot be used, such as after the gateway got another identity.
    pub fn load(&self) -> Result<Option<Kept>, OwnError> {
        self.file.load(|parts| {
            let [denied, svid] = parts else { return Err("it was written by another release".to_owned()) };
            let marks = STANDARD.decode(denied).map_err(|error| error.to_string())?;
            let (marks, []) = marks.as_chunks::<MARK>() else {
                return Err("the deny set is cut off".to_owned());
            };
            let mut denied = RevocationSet::default();
            denied.put_marks(marks.iter().copied());
            let svid = sealed::svid(svid)?;
            if svid.id != self.id {
                return Err(format!("`{}` is not `{}`", svid.id, self.id));
            }
            Ok(Kept { svid: Arc::new(svid), denied })
        })
    }

    /// Puts that in place of what was kept; durable when it returns.
    ///
    /// # Errors
    /// When the disk fails; what was kept stays.
    pub fn save(&self, kept: &Kept) -> Result<(), OwnError> {
        let marks = kept.denied.beyond(&RevocationSet::default());
        self.file.save(&STANDARD.encode(marks.as_flattened()), [&kept.svid])
    }
}

#[cfg(test)]
mod tests {
    use base_ports::{MemoryDisk, SeededRng};
    use ca_identity::testing::{TestCa, now};
    use ca_identity::{KeyId, Revoked};

    use super::*;

    fn file(disk: &MemoryDisk, path: &str) -> KeptFile {
        let id = SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap();
        KeptFile::open(Path::new("/data"), &id, Arc::new(disk.clone()), Arc::new(SeededRng::new(1))).unwrap()
    }

    #[test]
    fn rv_08_a_gateway_elsewhere_knows_after_a_restart_what_was_denied_and_who_it_is() {
        let (ca, disk) = (TestCa::new("example.org", now()), MemoryDisk::new());
        assert!(file(&disk, "/edge").load().unwrap().is_none(), "nothing was kept yet");
        let mut denied = RevocationSet::default();
        for n in 0..3 {
            denied.deny(&Revoked::Issuer(KeyId::from_bytes([n; 20])));
        }
        let kept = Kept { svid: Arc::new(ca.svid("/edge")), denied: denied.clone() };
        file(&disk, "/edge").save(&kept).unwrap();
        let read = file(&disk, "/edge").load().unwrap().unwrap();
        assert_eq!(
            (read.svid.serial.clone(), read.denied.digest()),
            (kept.svid.serial.clone(), denied.digest())
        );
        let nothing = Kept { denied: RevocationSet::default(), ..kept };
        file(&disk, "/edge").save(&nothing).unwrap();
        assert!(file(&disk, "/edge").load().unwrap().unwrap().denied.is_empty());
    }

    #[test]
    fn bn_06_the_key_of_a_gateway_is_sealed_and_opens_for_no_other_identity() {
        let (ca, disk) = (TestCa::new("example.org", now()), MemoryDisk::new());
        let kept = Kept { svid: Arc::new(ca.svid("/edge")), denied: RevocationSet::default() };
        file(&disk, "/edge").save(&kept).unwrap();
        let bytes = disk.read(Path::new("/data/gateway.svid")).unwrap();
        assert!(!bytes.windows(11).any(|window| window == b"PRIVATE KEY"));
        assert!(matches!(file(&disk, "/other").load(), Err(OwnError::Seal(_))));
    }
}
