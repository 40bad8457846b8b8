//! The log of a running process as material for `decisions verify`: checkpoint, tiles and bundles over its API.

use policies_decisions::{Fault as Wrong, Found, Material, TileId, Unreadable, VerifierKey};
use serde_json::Value;

use super::log::keys_of;
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::Exit;

/// Records of a bundle.
const BUNDLE: u64 = 256;

/// A running process, asked step by step.
#[derive(Debug)]
pub(super) struct Online {
    client: Client,
    runtime: tokio::runtime::Runtime,
    about: Value,
    checkpoint: Vec<u8>,
}

impl Online {
    pub(super) fn new(client: Client) -> Result<Self, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            Fault::new(Exit::Failed, Message::error("PC9001", format!("no runtime: {error}")))
        })?;
        let checkpoint = runtime.block_on(client.bytes("/v1/log/checkpoint"))?.to_vec();
        let about = runtime.block_on(client.get("/v1/log/keys"))?;
        Ok(Self { client, runtime, about, checkpoint })
    }

    /// The keys the process tells.
    pub(super) fn keys(&self) -> Result<Vec<VerifierKey>, Fault> {
        let keys: Result<Vec<_>, _> = keys_of(&self.about).map(str::parse).collect();
        keys.map_err(|error| {
            Fault::new(Exit::Failed, Message::error("PC0141", format!("key of the log: {error}")))
        })
    }

    /// The bytes at a path; `None` where nothing is.
    fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        match self.runtime.block_on(self.client.bytes(path)) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(fault) if fault.exit == Exit::Invalid => Ok(None),
            Err(fault) => Err(Unreadable { what: path.to_owned(), why: fault.message.text }),
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.about.get(name).and_then(Value::as_str).and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

impl Material for Online {
    fn checkpoint(&self) -> Result<Vec<u8>, Unreadable> {
        Ok(self.checkpoint.clone())
    }

    fn base(&self) -> u64 {
        self.number("base")
    }

    fn tile(&self, id: TileId, width: usize) -> Result<Option<(String, Vec<u8>)>, Unreadable> {
        let path = format!("/v1/log/tile/{}", id.path(width));
        Ok(self.bytes(&path)?.map(|bytes| (path, bytes)))
    }

    fn leaves(&self, each: &mut dyn FnMut(Found<'_>)) -> Result<Option<Wrong>, Unreadable> {
        let size: u64 = (String::from_utf8_lossy(&self.checkpoint).lines().nth(1))
            .and_then(|size| size.parse().ok())
            .unwrap_or(0);
        let base = self.base();
        // A bundle of which retention has taken a part is not served any more.
        let first = self.number("first").saturating_sub(base).div_ceil(BUNDLE);
        for index in first..size.div_ceil(BUNDLE) {
            let id = TileId { level: 0, index };
            let path = id.path(id.width(size));
            let path = format!("/v1/log/tile/entries/{}", path.strip_prefix("0/").unwrap_or(&path));
            let Some(bytes) = self.bytes(&path)? else {
                return Ok(Some(wrong(base + index * BUNDLE, &path, 0, "the bundle is missing")));
            };
            let (mut rest, mut at) = (bytes.as_slice(), base + index * BUNDLE);
            while let Some((length, behind)) = rest.split_first_chunk::<2>() {
                let offset = (bytes.len() - behind.len()) as u64;
                let Some((leaf, behind)) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))
                else {
                    return Ok(Some(wrong(at, &path, offset, "the bundle ends inside a record")));
                };
                each(Found { index: at, leaf, file: &path, offset });
                (rest, at) = (behind, at + 1);
            }
        }
        Ok(None)
    }
}

fn wrong(index: u64, file: &str, offset: u64, what: &str) -> Wrong {
    Wrong { index: Some(index), file: Some(file.to_owned()), offset: Some(offset), what: what.to_owned() }
}
