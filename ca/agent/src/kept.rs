//! The SVID of a gateway beside its agent, and what was denied when it was written, as one sealed file: a restart while
//! the authority is away goes on with both, until the SVID ends (RV-08).
//!
//! It gives nobody more than the file of the agent does, which has this SVID signed at any time. `portcullis` reads it at the
//! start and writes it whenever one of the two is new.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Disk, Rng};
use base_store::seal::SealKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_identity::{MARK, RevocationSet, SpiffeId, X509Svid, pem};
use zeroize::Zeroizing;

use crate::own::{BETWEEN, MODE, OwnError, SEAL};

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
    path: PathBuf,
    id: SpiffeId,
    seal: SealKey,
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
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
        let seal = SealKey::load_or_create(&data_dir.join(SEAL), rng.as_ref(), disk.as_ref())?;
        Ok(Self { path: data_dir.join(FILE), id: id.clone(), seal, disk, rng })
    }

    /// What was kept; none before the first time.
    ///
    /// # Errors
    /// When the file cannot be used, such as after the gateway got another identity.
    pub fn load(&self) -> Result<Option<Kept>, OwnError> {
        let Some(opened) = self.seal.open_file(&self.path, &self.context(), self.disk.as_ref())? else {
            return Ok(None);
        };
        let wrong = |what: &dyn std::fmt::Display| OwnError::Content {
            path: self.path.clone(),
            what: what.to_string(),
        };
        let text = std::str::from_utf8(&opened).map_err(|error| wrong(&error))?;
        let parts: Vec<_> = text.split(BETWEEN).collect();
        let [FIRST, denied, svid] = parts.as_slice() else {
            return Err(wrong(&"it was written by another release"));
        };
        let marks = STANDARD.decode(denied).map_err(|error| wrong(&error))?;
        let (marks, []) = marks.as_chunks::<MARK>() else { return Err(wrong(&"the deny set is cut off")) };
        let mut denied = RevocationSet::default();
        denied.put_marks(marks.iter().copied());
        let chain = pem::read_certificates(svid.as_bytes()).map_err(|error| wrong(&error))?;
        let key = pem::read_private_key(svid.as_bytes()).map_err(|error| wrong(&error))?;
        let svid = X509Svid::new(chain, key).map_err(|error| wrong(&error))?;
        if svid.id != self.id {
            return Err(wrong(&format!("`{}` is not `{}`", svid.id, self.id)));
        }
        Ok(Some(Kept { svid: Arc::new(svid), denied }))
    }

    /// Puts that in place of what was kept; durable when it returns.
    ///
    /// # Errors
    /// When the disk fails; what was kept stays.
    pub fn save(&self, kept: &Kept) -> Result<(), OwnError> {
        let marks = kept.denied.beyond(&RevocationSet::default());
        let mut text = Zeroizing::new(String::with_capacity(64 * 1024 + marks.len() * 2 * MARK));
        text.push_str(FIRST);
        text.push_str(BETWEEN);
        text.push_str(&STANDARD.encode(marks.as_flattened()));
        text.push_str(BETWEEN);
        text.push_str(&pem::write_certificates(&kept.svid.chain));
        text.push_str(&pem::write_private_key(&kept.svid.key));
        let sealed = self.seal.seal(&self.context(), text.as_bytes(), self.rng.as_ref());
        self.disk
            .write_atomic(&self.path, &sealed, MODE)
            .map_err(|source| OwnError::Write { path: self.path.clone(), source })
    }

    fn context(&self) -> Vec<u8> {
        format!("portcullis gateway svid v1 {}", self.id).into_bytes()
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
