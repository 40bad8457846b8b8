//! The profile linter: reads the finished DER and compares it with what was meant (IS-06).
//!
//! Shares no code and no table with the template. A finding is never the requester's fault: it is a defect of ours,
//! alarms, and the certificate is dropped.

use base_ports::UnixTime;
use ca_identity::{KeyId, SpiffeId};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LintError {
    /// Not a certificate, or bytes after it.
    #[error("it is not exactly one certificate")]
    Structure,
    /// A field is not what was meant.
    #[error("{0} is not what was meant")]
    Field(&'static str),
    /// An extension is missing, superfluous, or of the wrong criticality.
    #[error("the extensions are {found}, not {wanted}")]
    Extensions {
        /// As found, `!` marks critical ones.
        found: String,
        /// As they must be.
        wanted: &'static str,
    },
}

/// What a leaf must say.
#[derive(Debug)]
pub(crate) struct LeafProfile<'a> {
    pub(crate) id: &'a SpiffeId,
    pub(crate) dns_names: &'a [String],
    pub(crate) spki: &'a [u8],
    pub(crate) issuer_key: KeyId,
    pub(crate) issuer_der: &'a [u8],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

/// What a CA certificate must say.
#[derive(Debug)]
pub(crate) struct CaProfile<'a> {
    pub(crate) id: &'a SpiffeId,
    pub(crate) spki: &'a [u8],
    pub(crate) issuer_key: KeyId,
    pub(crate) path_len: u32,
}

const LEAF_EXTENSIONS: &str = "aki san! ku! eku ski bc!";
const CA_EXTENSIONS: &str = "aki san ku! ski bc!";

/// Every X5 rule for issuers, and the exact list of extensions.
pub(crate) fn leaf(der: &[u8], profile: &LeafProfile<'_>) -> Result<(), LintError> {
    let certificate = parse(der)?;
    check_common(&certificate, profile.spki, profile.issuer_key)?;
    let (_, issuer) = X509Certificate::from_der(profile.issuer_der).or(Err(LintError::Structure))?;
    let tbs = &certificate.tbs_certificate;
    require(tbs.subject.iter().next().is_none(), "the subject")?;
    require(tbs.issuer.as_raw() == issuer.tbs_certificate.subject.as_raw(), "the issuer")?;
    require(tbs.validity.not_before.timestamp() == profile.not_before.as_secs(), "notBefore")?;
    require(tbs.validity.not_after.timestamp() == profile.not_after.as_secs(), "notAfter")?;
    let parent = &issuer.tbs_certificate.validity;
    require(tbs.validity.not_before.timestamp() >= parent.not_before.timestamp(), "notBefore")?;
    require(tbs.validity.not_after.timestamp() <= parent.not_after.timestamp(), "notAfter")?;
    require(tbs.validity.not_before.timestamp() < tbs.validity.not_after.timestamp(), "the validity")?;
    check_extension_list(&certificate, LEAF_EXTENSIONS)?;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                let (uri, rest) = san.general_names.split_first().ok_or(LintError::Field("the SAN"))?;
                require(*uri == GeneralName::URI(profile.id.as_str()), "the URI name")?;
                let dns = profile.dns_names.iter().map(|name| GeneralName::DNSName(name));
                require(rest.iter().cloned().eq(dns), "the DNS names")?;
            }
            ParsedExtension::BasicConstraints(found) => {
                require(!found.ca && found.path_len_constraint.is_none(), "basicConstraints")?;
            }
            ParsedExtension::KeyUsage(found) => require(found.flags == 1, "keyUsage")?,
            ParsedExtension::ExtendedKeyUsage(found) => {
                let others = found.any || found.code_signing || found.email_protection || found.time_stamping;
                let others = others || found.ocsp_signing || !found.other.is_empty();
                require(found.server_auth && found.client_auth && !others, "extendedKeyUsage")?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The same for root and signing CA.
pub(crate) fn ca(der: &[u8], profile: &CaProfile<'_>) -> Result<(), LintError> {
    let certificate = parse(der)?;
    check_common(&certificate, profile.spki, profile.issuer_key)?;
    require(certificate.tbs_certificate.subject.iter().next().is_some(), "the subject")?;
    check_extension_list(&certificate, CA_EXTENSIONS)?;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                let wanted = [GeneralName::URI(profile.id.as_str())];
                require(san.general_names == wanted, "the URI name")?;
            }
            ParsedExtension::BasicConstraints(found) => {
                let fits = found.ca && found.path_len_constraint == Some(profile.path_len);
                require(fits, "basicConstraints")?;
            }
            ParsedExtension::KeyUsage(found) => require(found.flags == 0b0110_0000, "keyUsage")?,
            _ => {}
        }
    }
    Ok(())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, LintError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(LintError::Structure),
    }
}

/// Version, serial number, algorithm, key and key identifiers.
fn check_common(certificate: &X509Certificate<'_>, spki: &[u8], issuer: KeyId) -> Result<(), LintError> {
    let tbs = &certificate.tbs_certificate;
    require(tbs.version.0 == 2, "the version")?;
    let serial = tbs.raw_serial();
    let positive = serial.first().is_some_and(|top| (1..=0x7f).contains(top));
    require(positive && serial.len() == 20, "the serial number")?;
    let ecdsa_with_sha256 = "1.2.840.10045.4.3.2";
    require(certificate.signature_algorithm.algorithm.to_id_string() == ecdsa_with_sha256, "the algorithm")?;
    require(tbs.subject_pki.raw == spki, "the public key")?;
    let subject = KeyId::of_public_key(&tbs.subject_pki.subject_public_key.data);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(found) => {
                require(found.0 == subject.as_bytes(), "the subject key identifier")?;
            }
            ParsedExtension::AuthorityKeyIdentifier(found) => {
                let key = found.key_identifier.as_ref().is_some_and(|id| id.0 == issuer.as_bytes());
                let only = found.authority_cert_issuer.is_none() && found.authority_cert_serial.is_none();
                require(key && only, "the authority key identifier")?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_extension_list(certificate: &X509Certificate<'_>, wanted: &'static str) -> Result<(), LintError> {
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        let name = match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(_) => "aki",
            ParsedExtension::SubjectKeyIdentifier(_) => "ski",
            ParsedExtension::SubjectAlternativeName(_) => "san",
            ParsedExtension::KeyUsage(_) => "ku",
            ParsedExtension::ExtendedKeyUsage(_) => "eku",
            ParsedExtension::BasicConstraints(_) => "bc",
            _ => "other",
        };
        found.push(format!("{name}{}", if extension.critical { "!" } else { "" }));
    }
    let found = found.join(" ");
    if found == wanted { Ok(()) } else { Err(LintError::Extensions { found, wanted }) }
}

fn require(fits: bool, field: &'static str) -> Result<(), LintError> {
    if fits { Ok(()) } else { Err(LintError::Field(field)) }
}

#[cfg(test)]
mod tests;
