//! A sealed file of this host: SVIDs with their keys, and text that goes with them (BN-06). It is replaced as a whole.
//!
//! `own` and `kept` say what stands in theirs. Refused: what another key sealed, what was sealed for something else, and what
//! does not begin as it should.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Disk, Rng};
use base_store::seal::SealKey;
use ca_identity::{X509Svid, pem};
use zeroize::Zeroizing;

use crate::own::OwnError;

const SEAL: &str = "seal.key";
const MODE: u32 = 0o600;
/// A line between its parts. No line of PEM, JSON or base64 is it.
const BETWEEN: &str = "\n---\n";

/// Where it is, and what it is sealed for.
#[derive(Debug)]
pub(crate) struct Sealed {
    path: PathBuf,
    /// The first part.
    first: &'static str,
    context: Vec<u8>,
    seal: SealKey,
    disk: Arc<dyn Disk>,
    rng: Arc<dyn Rng>,
}

impl Sealed {
    /// That file in that data directory, whose sealing key is made when there is none.
    ///
    /// # Errors
    /// When the sealing key cannot be used.
    pub(crate) fn open(
        data_dir: &Path,
        (file, first): (&str, &'static str),
        context: String,
        disk: Arc<dyn Disk>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, OwnError> {
        let seal = SealKey::load_or_create(&data_dir.join(SEAL), rng.as_ref(), disk.as_ref())?;
        Ok(Self { path: data_dir.join(file), first, context: context.into_bytes(), seal, disk, rng })
    }

    /// What `read` makes of the parts behind the first; none when there is no file.
    ///
    /// # Errors
    /// When the file cannot be used, or `read` says what is wrong with it.
    pub(crate) fn load<T>(
        &self,
        read: impl FnOnce(&[&str]) -> Result<T, String>,
    ) -> Result<Option<T>, OwnError> {
        let Some(opened) = self.seal.open_file(&self.path, &self.context, self.disk.as_ref())? else {
            return Ok(None);
        };
        let wrong = |what: String| OwnError::Content { path: self.path.clone(), what };
        let text = std::str::from_utf8(&opened).map_err(|error| wrong(error.to_string()))?;
        let parts: Vec<_> = text.split(BETWEEN).collect();
        match parts.split_first() {
            Some((first, rest)) if *first == self.first => read(rest).map(Some).map_err(wrong),
            _ => Err(wrong("it was written by another release".to_owned())),
        }
    }

    /// Puts a text and SVIDs in place of what was there; durable when it returns.
    ///
    /// # Errors
    /// When the disk fails; what was there stays.
    pub(crate) fn save<'s>(
        &self,
        text: &str,
        svids: impl IntoIterator<Item = &'s Arc<X509Svid>>,
    ) -> Result<(), OwnError> {
        // Never moved, so that no key is left behind in memory.
        let mut whole = Zeroizing::new(String::with_capacity(64 * 1024 + text.len()));
        whole.push_str(self.first);
        whole.push_str(BETWEEN);
        whole.push_str(text);
        for svid in svids {
            whole.push_str(BETWEEN);
            whole.push_str(&pem::write_certificates(&svid.chain));
            whole.push_str(&pem::write_private_key(&svid.key));
        }
        let sealed = self.seal.seal(&self.context, whole.as_bytes(), self.rng.as_ref());
        self.disk
            .write_atomic(&self.path, &sealed, MODE)
            .map_err(|source| OwnError::Write { path: self.path.clone(), source })
    }
}

/// The SVID in a part.
pub(crate) fn svid(part: &str) -> Result<X509Svid, String> {
    let chain = pem::read_certificates(part.as_bytes()).map_err(|error| error.to_string())?;
    let key = pem::read_private_key(part.as_bytes()).map_err(|error| error.to_string())?;
    X509Svid::new(chain, key).map_err(|error| error.to_string())
}
