//! Leaves that the authority would never issue, signed with its own signing key and minted by openssl.
//!
//! A test takes the key out of the data directory as only the owner of the machine could: a refusal then rests on the
//! one rule that the leaf breaks, not on a signature that fails anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base_ports::{SystemDisk, SystemRng};
use base_store::seal::SealKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{Gateway, Result};

/// Extensions of a leaf with which nothing is wrong.
pub const LEAF: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
     extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// A certificate with its key, as PEM files, that openssl signs with.
pub struct Forge {
    dir: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    bundle: PathBuf,
}

impl Forge {
    /// The signing CA of a gateway; `tls` holds an SVID that it issued.
    pub fn of(gateway: &Gateway, tls: &Path) -> Result<Self> {
        let keys = gateway.dir().join("data/keys");
        let sealed = fs::read_dir(&keys)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("signing-")))
            .ok_or("no signing key")?;
        let key_id = sealed
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned())
            .and_then(|name| Some(name.strip_prefix("signing-")?.to_owned()))
            .ok_or("no key id")?;
        let seal = SealKey::load_or_create(&gateway.dir().join("data/seal.key"), &SystemRng, &SystemDisk)?;
        let context = format!("portcullis authority key v1 signing {key_id}");
        let plain = seal.open(context.as_bytes(), &fs::read(&sealed)?)?;
        let chain = fs::read_to_string(tls.join("svid.pem"))?;
        let issuer =
            chain.rfind("-----BEGIN").map(|start| &chain[start..]).ok_or("no issuer in the chain")?;
        let dir = gateway.dir().join("forge");
        fs::create_dir_all(&dir)?;
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        fs::write(&certificate, issuer)?;
        fs::write(&key, pem("PRIVATE KEY", &plain))?;
        Ok(Self { dir, certificate, key, bundle: tls.join("bundle.pem") })
    }

    /// A CA of nobody's, that says it belongs to `domain`.
    pub fn foreign(gateway: &Gateway, domain: &str, tls: &Path) -> Result<Self> {
        let apart = Self::apart(&gateway.dir().join(format!("forge-{domain}")), domain)?;
        Ok(Self { bundle: tls.join("bundle.pem"), ..apart })
    }

    /// The same in a directory of its own, without a gateway.
    pub fn apart(dir: &Path, domain: &str) -> Result<Self> {
        let dir = dir.to_owned();
        fs::create_dir_all(&dir)?;
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        self_signed(
            &certificate,
            &key,
            &format!(
                "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nsubjectAltName=URI:spiffe://{domain}\n"
            ),
        )?;
        Ok(Self { dir, bundle: certificate.clone(), certificate, key })
    }

    /// A leaf with these extensions, valid for a day; its directory is laid out as `svid write` does it.
    pub fn leaf(&self, name: &str, extensions: &str) -> Result<PathBuf> {
        self.mint(name, extensions, &[])
    }

    /// The same, minted so long ago that it ended an hour ago. Needs `faketime`.
    pub fn expired(&self, name: &str, extensions: &str) -> Result<PathBuf> {
        self.mint(name, extensions, &["faketime", "25 hours ago"])
    }

    /// The CA itself in the place of a leaf.
    pub fn itself(&self) -> Result<PathBuf> {
        let files = self.files("itself")?;
        fs::copy(&self.certificate, files.join("svid.pem"))?;
        fs::copy(&self.key, files.join("svid.key"))?;
        Ok(files)
    }

    /// A leaf that signed itself.
    pub fn self_signed(&self, name: &str, extensions: &str) -> Result<PathBuf> {
        let files = self.files(name)?;
        self_signed(
            &files.join("svid.pem"),
            &files.join("svid.key"),
            &extensions.replace("authorityKeyIdentifier=keyid\n", ""),
        )?;
        Ok(files)
    }

    fn files(&self, name: &str) -> Result<PathBuf> {
        let files = self.dir.join(name);
        fs::create_dir_all(&files)?;
        fs::copy(&self.bundle, files.join("bundle.pem"))?;
        fs::copy(&self.certificate, files.join("issuer.pem"))?;
        Ok(files)
    }

    fn mint(&self, name: &str, extensions: &str, below: &[&str]) -> Result<PathBuf> {
        let files = self.files(name)?;
        let (request, leaf) = (files.join("request.pem"), files.join("svid.pem"));
        request_to(&request, &files.join("svid.key"), &[])?;
        fs::write(files.join("extensions"), extensions)?;
        let mut words: Vec<&str> = below.to_vec();
        words.extend(["openssl", "x509", "-req", "-days", "1", "-sha256", "-in"]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&request).arg("-extfile").arg(files.join("extensions"));
        command
            .arg("-CA")
            .arg(&self.certificate)
            .arg("-CAkey")
            .arg(&self.key)
            .arg("-CAcreateserial")
            .arg("-out")
            .arg(&leaf);
        run(&mut command)?;
        let chain = fs::read_to_string(&leaf)? + &fs::read_to_string(&self.certificate)?;
        fs::write(&leaf, chain)?;
        Ok(files)
    }
}

/// A fresh P-256 key and a certificate request in PEM; `more` are words for openssl, such as `-addext`.
pub fn request_to(request: &Path, key: &Path, more: &[&str]) -> Result {
    let mut command = Command::new("openssl");
    command.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command.args(["-subj", "/O=forged", "-keyout"]).arg(key).arg("-out").arg(request).args(more);
    run(&mut command)
}

/// The DER between the marks of a PEM file, in base64, as the API takes it.
pub fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

/// PEM armour around DER.
pub fn pem(label: &str, der: &[u8]) -> String {
    armour(label, &STANDARD.encode(der))
}

/// PEM armour around base64.
pub fn armour(label: &str, base64: &str) -> String {
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn self_signed(certificate: &Path, key: &Path, extensions: &str) -> Result {
    let request = certificate.with_extension("request");
    let list = certificate.with_extension("extensions");
    request_to(&request, key, &[])?;
    fs::write(&list, extensions)?;
    let mut command = Command::new("openssl");
    command.args(["x509", "-req", "-days", "1", "-in"]).arg(&request).arg("-signkey").arg(key);
    run(command.arg("-extfile").arg(&list).arg("-out").arg(certificate))
}

/// Runs a command that must succeed; what it said otherwise.
pub fn run(command: &mut Command) -> Result {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
