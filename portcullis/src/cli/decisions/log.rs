//! `decisions prove|verify|keys|checkpoint|accept-loss`: what auditors hold in hand, and what they check it with (VF3, VF6).
//!
//! `verify` exits 0 when everything is intact and complete, 4 when gaps are declared, 1 when something was changed, and 3
//! when it cannot be read. With `--dir`, or with a proof file, no process is asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base_ports::{Clock, Rng, SystemClock, SystemDisk, SystemRng, UnixTime};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use policies_decisions::{
    Accepted, Auditor, DirMaterial, Material, ProofDocument, ProofError, StoredRecord, TreeHash, Unreadable,
    VerifierKey, verify,
};
use serde_json::{Value, json};

use super::identities::Known;
use super::online::Online;
use super::recompute::judged;
use super::report::Given;
use super::{bundle, encode, people, report};
use crate::cli::{Global, block_on};
use crate::client::{Client, Fault};
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

/// No file that is given is longer, bytes.
const LONGEST: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct ProveOptions {
    /// Decision id, or PREFIX…SUFFIX
    id: String,
    /// Write the proof there [default: print it]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// A proof of one record, as `decisions prove` writes it, or a bundle of `decisions export --with-proofs`
    #[arg(value_name = "PROOF", conflicts_with_all = ["dir", "since_checkpoint", "bundle", "recompute"])]
    proof: Option<PathBuf>,
    /// Also check that this opening, of `decisions reveal -o json`, is the one of the record that is proved
    #[arg(long, value_name = "FILE", requires = "proof")]
    opening: Option<PathBuf>,
    /// Read the ledger in this directory and ask no process
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Verifier key of the log, or a file that holds it [default: what the running process says]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A checkpoint that was kept: what it covers must be the beginning of this log
    #[arg(long, value_name = "FILE")]
    since_checkpoint: Option<PathBuf>,
    /// Authorities that the SVIDs of enforcers must lead to: PEM, or a SPIFFE bundle (JWKS)
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Have so many decisions, drawn by chance, judged again by stock Cedar; the running process lends the policies
    #[arg(long, value_name = "N")]
    recompute: Option<usize>,
}

pub(super) fn prove(options: ProveOptions, global: &Global) -> Exit {
    global.ask(|client| async move {
        let proof = client.get(&format!("/v1/decisions/{}/proof", encode(&options.id))).await?;
        let document = document(&proof)
            .ok_or_else(|| Fault::new(Exit::Failed, Message::error("PC0141", "the answer is no proof")))?;
        let file = document.to_string();
        let text = match &options.out {
            Some(path) => {
                std::fs::write(path, &file).map_err(|error| {
                    let text = format!("`{}` cannot be written: {error}", path.display());
                    Fault::new(Exit::Failed, Message::error("PC0107", text))
                })?;
                format!("index {}, proved in `{}`", document.index, path.display())
            }
            None => file.trim_end().to_owned(),
        };
        Ok((Answer::object("Proof", proof, text), Exit::Done))
    })
}

fn document(proof: &Value) -> Option<ProofDocument> {
    let text = |name: &str| proof.get(name).and_then(Value::as_str);
    let hash = |hash: &Value| STANDARD.decode(hash.as_str()?).ok()?.try_into().ok().map(TreeHash);
    Some(ProofDocument {
        leaf: STANDARD.decode(text("leaf")?).ok()?,
        index: text("index")?.parse().ok()?,
        path: proof.get("path")?.as_array()?.iter().map(hash).collect::<Option<_>>()?,
        checkpoint: text("checkpoint")?.to_owned(),
    })
}

pub(super) fn keys(global: &Global) -> Exit {
    global.ask(|client| async move {
        let keys = client.get("/v1/log/keys").await?;
        let lines: Vec<_> = signing(&keys).map(ToOwned::to_owned).collect();
        Ok((Answer::object("LogKeys", keys, lines.join("\n")), Exit::Done))
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new key for the log; it and the one before it sign for 24 hours
    #[command(after_help = "Example:\n  portcullis decisions keys rotate")]
    Rotate,
}

pub(super) fn rotate(global: &Global) -> Exit {
    global.ask(|client| async move {
        let keys = client.post("/v1/log/keys:rotate", &json!({})).await?;
        let mut lines: Vec<_> = signing(&keys).map(ToOwned::to_owned).collect();
        lines.push(
            "next: give auditors the first key; who holds the one before it follows by the log".to_owned(),
        );
        Ok((Answer::object("LogKeys", keys, lines.join("\n")), Exit::Done))
    })
}

pub(super) fn checkpoint(global: &Global) -> Exit {
    global.ask(|client| async move {
        let note = client.bytes("/v1/log/checkpoint").await?;
        let note = String::from_utf8_lossy(&note).into_owned();
        let text = note.trim_end().to_owned();
        Ok((Answer::object("Checkpoint", json!({ "note": note }), text), Exit::Done))
    })
}

/// The keys that sign now, the newest first.
fn signing(keys: &Value) -> impl Iterator<Item = &str> {
    let keys = keys.get("keys").and_then(Value::as_array).into_iter().flatten();
    let signing = keys.filter(|key| key.get("signs").and_then(Value::as_bool) == Some(true));
    signing.filter_map(|key| key.get("key").and_then(Value::as_str))
}

pub(super) fn keys_of(keys: &Value) -> impl Iterator<Item = &str> {
    let keys = keys.get("keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(|key| key.get("key").and_then(Value::as_str))
}

pub(super) fn verified(options: VerifyOptions, global: &Global) -> Exit {
    let lender = match options.recompute.map(|_| global.client()).transpose() {
        Ok(lender) => lender,
        Err(exit) => return exit,
    };
    let lender = lender.as_ref();
    let outcome = match (&options.proof, &options.dir) {
        (Some(file), _) if bundle::is_bundle(file) => {
            keys_given(&options).and_then(|keys| bundle::verify(file, &keys))
        }
        (Some(proof), _) => one(proof, &options),
        (None, Some(dir)) => keys_given(&options).and_then(|keys| {
            let material = DirMaterial::open(dir, Arc::new(SystemDisk)).map_err(unreadable)?;
            whole(&material, &keys, &options, (None, lender))
        }),
        (None, None) => match global.client() {
            Ok(client) => online(Online::new(client), &options, lender),
            Err(exit) => return exit,
        },
    };
    match outcome {
        Ok((answer, exit)) => {
            answer.print(global.format());
            exit
        }
        Err(fault) => global.fail(&fault),
    }
}

fn online(
    material: Result<Online, Fault>,
    options: &VerifyOptions,
    lender: Option<&Client>,
) -> Result<(Answer, Exit), Fault> {
    let material = material?;
    let keys = match &options.key {
        Some(_) => keys_given(options)?,
        // Then it shows that the log agrees with itself, and with a kept checkpoint.
        None => material.keys()?,
    };
    whole(&material, &keys, options, (Some(SystemClock.now().wall), lender))
}

fn whole(
    material: &dyn Material,
    keys: &[VerifierKey],
    options: &VerifyOptions,
    (now, lender): (Option<UnixTime>, Option<&Client>),
) -> Result<(Answer, Exit), Fault> {
    let since = options.since_checkpoint.as_deref().map(read).transpose()?;
    let identities = known(keys, options)?;
    let sample = (options.recompute.unwrap_or(0), &SystemRng as &dyn Rng);
    let auditor = Auditor { keys, since: since.as_deref(), identities: &identities, now, sample };
    let mut found = verify(material, &auditor).map_err(unreadable)?;
    let recomputed = lender.map(|lender| judged(lender, &found)).transpose()?;
    found.faults.extend(recomputed.iter().flat_map(|recomputed| recomputed.different.clone()));
    let exit = match (found.is_intact(), found.is_complete()) {
        (false, _) => Exit::Failed,
        (true, false) => Exit::Partial,
        (true, true) => Exit::Done,
    };
    let given = Given {
        since: options.since_checkpoint.as_deref(),
        bundle: options.bundle.as_deref(),
        recomputed: recomputed.as_ref(),
    };
    let (json, text) = (report::json(&found, &given), report::told(&found, &given));
    Ok((Answer::object("Verification", json, text), exit))
}

/// The authorities an auditor trusts. The log is named after their trust domain.
fn known(keys: &[VerifierKey], options: &VerifyOptions) -> Result<Known, Fault> {
    let Some(path) = &options.bundle else { return Ok(Known::default()) };
    let domain = keys.first().and_then(|key| key.name().split('/').next()).unwrap_or_default();
    Known::with_bundle(domain, path, &read(path)?)
        .map_err(|text| Fault::new(Exit::Invalid, Message::error("PC6022", text)))
}

/// One record, with its proof and the key alone.
fn one(path: &Path, options: &VerifyOptions) -> Result<(Answer, Exit), Fault> {
    let keys = keys_given(options)?;
    let tampered = |error: &ProofError| {
        let text = format!("`{}`: {error}", path.display());
        Fault::new(Exit::Failed, Message::error("PC5003", text))
    };
    let document = ProofDocument::parse(&read(path)?).map_err(|error| tampered(&error))?;
    let checkpoint = document.verify(&keys).map_err(|error| tampered(&error))?;
    let record = StoredRecord::decode(document.index, document.leaf.into()).map_err(|error| {
        let text = format!("`{}`: it proves bytes that are no record: {error}", path.display());
        Fault::new(Exit::Failed, Message::error("PC5003", text))
    })?;
    let (id, time) = (record.id.to_string(), record.time.to_string());
    let opening = options.opening.as_deref().map(|file| people::opened(file, &record)).transpose()?;
    let mut text = format!(
        "record      {id} of {time}, index {}\ntree        {} records, signed by {}\nresult      proved",
        document.index, checkpoint.size, checkpoint.origin
    );
    let mut shown = json!({
        "result": "proved", "id": id, "time": time, "index": document.index.to_string(),
        "size": checkpoint.size.to_string(), "origin": checkpoint.origin,
    });
    if let Some((opening, members)) = opening.zip(shown.as_object_mut()) {
        text.push_str(&format!("\nopened      {} is {}", opening.field, opening.value.escape_debug()));
        members.insert(opening.field, opening.value.into());
    }
    Ok((Answer::object("Verification", shown, text), Exit::Done))
}

fn keys_given(options: &VerifyOptions) -> Result<Vec<VerifierKey>, Fault> {
    let usage = |text: String| {
        let message = Message::error("PC0104", text).next("portcullis decisions keys");
        Fault::new(
            Exit::Usage,
            message.help("--key takes the verifier key of the log, or a file that holds it"),
        )
    };
    let Some(key) = &options.key else {
        return Err(usage("without a process to ask, the verifier key must be given".to_owned()));
    };
    let text = match Path::new(key).is_file() {
        true => String::from_utf8_lossy(&read(Path::new(key))?).into_owned(),
        false => key.clone(),
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let keys: Result<Vec<_>, _> = lines.map(str::parse).collect();
    keys.map_err(|error| usage(format!("`{key}`: {error}")))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let said = |error: &dyn std::fmt::Display| {
        let text = format!("`{}`: {error}", path.display());
        Fault::new(Exit::Invalid, Message::error("PC6022", text))
    };
    let length = std::fs::metadata(path).map_err(|error| said(&error))?.len();
    if length > LONGEST {
        return Err(said(&"it is too long for what is asked for"));
    }
    std::fs::read(path).map_err(|error| said(&error))
}

fn unreadable(error: Unreadable) -> Fault {
    Fault::new(Exit::Invalid, Message::error("PC6022", error.to_string()))
}

pub(super) fn accept_loss(global: &Global) -> Exit {
    let loaded = match global.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let uid = rustix::process::getuid().as_raw();
    match block_on(crate::assemble::open::accept_loss(&loaded.config, uid)) {
        Ok(Accepted::NothingLost) => {
            let shown = json!({ "result": "nothing lost" });
            Answer::object(
                "AcceptedLoss",
                shown,
                "the ledger is what was signed; nothing was changed".to_owned(),
            )
            .print(global.format());
            Exit::Done
        }
        Ok(Accepted::Begun { why, old, new }) => {
            let text = format!(
                "given up: {why}\nlog {old} has ended, and {new} begins with the records that are there"
            );
            let shown = json!({ "result": "accepted", "why": why, "old": old, "new": new });
            Answer::object("AcceptedLoss", shown, text).print(global.format());
            Exit::Done
        }
        Err(message) => {
            output::report(&[message], global.format());
            Exit::Failed
        }
    }
}
