//! `policy export --snapshot`: the signed snapshot in force as one file, for `[policies] bootstrap` of a follower (ST9).
//! What it holds the follower checks against the key that it pins; here only the numbers are read, to be shown.

use std::path::PathBuf;

use base_ports::{Disk, SystemDisk};
use serde_json::{Value, json};

use super::files::unreadable;
use super::shown::number;
use crate::cli::Global;
use crate::client::Fault;
use crate::messages::Message;
use crate::output::{Answer, Exit};

/// Format and length before the manifest.
const HEAD: usize = 8 + 8;

pub(super) fn export(file: PathBuf, global: &Global) -> Exit {
    global.ask(|client| async move {
        if file.as_os_str() == "-" {
            let message = Message::error("PC0104", "a snapshot is no text, so it is not written to stdout");
            return Err(Fault::new(Exit::Usage, message.next("portcullis policy export --snapshot FILE")));
        }
        let bytes = client.bytes("/v1/policies/snapshot").await?;
        let manifest = manifest(&bytes).ok_or_else(|| {
            let text = "the answer is no snapshot file";
            Fault::new(Exit::Failed, Message::error("PC0141", text).next("portcullis status"))
        })?;
        SystemDisk.write_atomic(&file, &bytes, 0o644).map_err(|error| unreadable(&file, &error))?;
        let (epoch, snapshot) = (number(&manifest, "epoch"), number(&manifest, "snapshot"));
        let version = number(&manifest, "policies");
        let text = format!(
            "policies v{version} (snapshot {epoch}.{snapshot}) in {}\nnext: name it as `bootstrap` in [policies] of a follower",
            file.display()
        );
        let json = json!({
            "version": version, "epoch": epoch, "snapshot": snapshot,
            "file": file.display().to_string(), "bytes": bytes.len(),
        });
        Ok((Answer::object("Export", json, text), Exit::Done))
    })
}

fn manifest(file: &[u8]) -> Option<Value> {
    let length = u64::from_be_bytes(*file.get(8..HEAD)?.first_chunk()?);
    let rest = file.strip_prefix(b"PCSNAP01")?.get(8..)?;
    serde_json::from_slice(rest.get(..usize::try_from(length).ok()?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_a_file_is_read_and_nothing_else_is_taken_for_one() {
        let file = [b"PCSNAP01\0\0\0\0\0\0\0\x0f".as_slice(), br#"{"policies": 3}"#, b"rest"].concat();
        assert_eq!(manifest(&file), Some(json!({ "policies": 3 })));
        for bad in
            [b"".as_slice(), b"PCSNAP01", b"PCSNAP02\0\0\0\0\0\0\0\x02{}", b"PCSNAP01\xff\0\0\0\0\0\0\x02{}"]
        {
            assert_eq!(manifest(bad), None, "{bad:?}");
        }
    }
}
