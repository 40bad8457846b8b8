//! One certificate, parsed once and strictly; every check and every display of this crate reads this value.
//!
//! x509-parser does the structure, we add what it leaves open: exact ends, depth, version, equal algorithms,
//! no extension twice, no extension that failed to parse (VS-01, XT-12, XT-13). Judges no path and no time.

use base_ports::UnixTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use crate::algorithm::{AllowedKey, check_signature_algorithm};
use crate::key_id::{KeyId, Serial};
use crate::refusal::Refusal;
use crate::{SpiffeId, der};

const SIZE_LIMIT: usize = 16 * 1024;

/// A structurally sound X.509 version 3 certificate.
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a [u8],
    x509: X509Certificate<'a>,
    signed: der::Signed<'a>,
}

/// What basicConstraints says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
    pub(crate) critical: bool,
}

/// What keyUsage says, as the bits of RFC 5280 4.2.1.3 (bit 0 = digitalSignature).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyUsage {
    pub(crate) flags: u16,
    pub(crate) critical: bool,
}

impl KeyUsage {
    pub(crate) fn digital_signature(self) -> bool {
        self.flags & 1 != 0
    }

    pub(crate) fn key_cert_sign(self) -> bool {
        self.flags & (1 << 5) != 0
    }

    pub(crate) fn crl_sign(self) -> bool {
        self.flags & (1 << 6) != 0
    }
}

/// What extendedKeyUsage says about the two TLS purposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Purposes {
    pub(crate) client: bool,
    pub(crate) server: bool,
}

/// The subject alternative names, all of them readable ASCII.
#[derive(Debug, Default, Clone)]
pub(crate) struct Names<'a> {
    pub(crate) uris: Vec<&'a str>,
    pub(crate) dns: Vec<&'a str>,
}

impl<'a> Certificate<'a> {
    /// VS-01 for one certificate.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, Refusal> {
        if der.len() > SIZE_LIMIT {
            return Err(Refusal::TooLarge);
        }
        der::check_one(der)?;
        let signed = der::signed(der)?;
        let (rest, x509) = X509Certificate::from_der(der).or(Err(Refusal::Malformed))?;
        if !rest.is_empty() {
            return Err(Refusal::TrailingBytes);
        }
        let certificate = Self { der, x509, signed };
        certificate.check_structure()?;
        Ok(certificate)
    }

    fn check_structure(&self) -> Result<(), Refusal> {
        if self.x509.version() != X509Version::V3 {
            return Err(Refusal::NotVersion3);
        }
        if self.x509.tbs_certificate.signature != self.x509.signature_algorithm {
            return Err(Refusal::AlgorithmMismatch);
        }
        let extensions = self.x509.extensions();
        for (nth, extension) in extensions.iter().enumerate() {
            if extensions.iter().take(nth).any(|earlier| earlier.oid == extension.oid) {
                return Err(Refusal::DuplicateExtension);
            }
            match extension.parsed_extension() {
                ParsedExtension::ParseError { .. } => return Err(Refusal::Malformed),
                ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_) => {
                    // The parser stops at the end of the value it knows; nothing may follow inside the extension.
                    der::check_one(extension.value).or(Err(Refusal::Malformed))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// VS-02: the signature algorithm and the key are on the allow-list. No cryptography happens here.
    pub(crate) fn key(&self) -> Result<AllowedKey<'_>, Refusal> {
        check_signature_algorithm(self.signed.algorithm)?;
        AllowedKey::of_spki(self.spki())
    }

    /// Checks the signature of this certificate under `issuer`.
    pub(crate) fn verify_signed_by(&self, issuer: &AllowedKey<'_>) -> Result<(), Refusal> {
        issuer.verify(&self.signed)
    }

    /// The subject alternative names; one unreadable name refuses them all (VS-03).
    pub(crate) fn names(&self) -> Result<Names<'_>, Refusal> {
        let mut names = Names::default();
        let Some((ParsedExtension::SubjectAlternativeName(san), _)) =
            self.extension(|e| matches!(e, ParsedExtension::SubjectAlternativeName(_)))
        else {
            return Ok(names);
        };
        for name in &san.general_names {
            match name {
                GeneralName::URI(uri) => names.uris.push(readable(uri)?),
                GeneralName::DNSName(dns) => names.dns.push(readable(dns)?),
                GeneralName::RFC822Name(mail) => {
                    readable(mail)?;
                }
                GeneralName::Invalid(..) => return Err(Refusal::SanInvalid),
                _ => {}
            }
        }
        Ok(names)
    }

    /// The SPIFFE ID, when exactly one URI name is one.
    pub(crate) fn spiffe_id(&self) -> Result<SpiffeId, Refusal> {
        let names = self.names()?;
        match names.uris.as_slice() {
            [] => Err(Refusal::NoUri),
            [uri] => SpiffeId::parse(uri).map_err(Refusal::SpiffeId),
            _ => Err(Refusal::ManyUris),
        }
    }

    pub(crate) fn basic_constraints(&self) -> Option<BasicConstraints> {
        match self.extension(|e| matches!(e, ParsedExtension::BasicConstraints(_)))? {
            (ParsedExtension::BasicConstraints(found), critical) => {
                Some(BasicConstraints { ca: found.ca, path_len: found.path_len_constraint, critical })
            }
            _ => None,
        }
    }

    pub(crate) fn is_ca(&self) -> bool {
        self.basic_constraints().is_some_and(|found| found.ca)
    }

    pub(crate) fn key_usage(&self) -> Option<KeyUsage> {
        match self.extension(|e| matches!(e, ParsedExtension::KeyUsage(_)))? {
            (ParsedExtension::KeyUsage(found), critical) => Some(KeyUsage { flags: found.flags, critical }),
            _ => None,
        }
    }

    pub(crate) fn purposes(&self) -> Option<Purposes> {
        match self.extension(|e| matches!(e, ParsedExtension::ExtendedKeyUsage(_)))? {
            (ParsedExtension::ExtendedKeyUsage(found), _) => {
                Some(Purposes { client: found.client_auth, server: found.server_auth })
            }
            _ => None,
        }
    }

    pub(crate) fn has_name_constraints(&self) -> bool {
        self.extension(|e| matches!(e, ParsedExtension::NameConstraints(_))).is_some()
    }

    /// VS-09: a critical extension besides those that this crate judges.
    pub(crate) fn has_unknown_critical(&self) -> bool {
        self.x509.extensions().iter().filter(|extension| extension.critical).any(|extension| {
            !matches!(
                extension.parsed_extension(),
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
                    | ParsedExtension::SubjectAlternativeName(_)
                    | ParsedExtension::NameConstraints(_)
            )
        })
    }

    pub(crate) fn authority_key_id(&self) -> Option<&[u8]> {
        match self.extension(|e| matches!(e, ParsedExtension::AuthorityKeyIdentifier(_)))? {
            (ParsedExtension::AuthorityKeyIdentifier(id), _) => id.key_identifier.as_ref().map(|key| key.0),
            _ => None,
        }
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.x509.subject().as_raw() == self.x509.issuer().as_raw()
    }

    pub(crate) fn subject(&self) -> String {
        self.x509.subject().to_string()
    }

    pub(crate) fn issuer(&self) -> String {
        self.x509.issuer().to_string()
    }

    pub(crate) fn serial(&self) -> Serial {
        Serial::from_bytes(self.x509.raw_serial())
    }

    pub(crate) fn not_before(&self) -> UnixTime {
        time(self.x509.validity().not_before.timestamp())
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        time(self.x509.validity().not_after.timestamp())
    }

    /// DER of the SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &'a [u8] {
        self.x509.tbs_certificate.subject_pki.raw
    }

    /// Identifier of the certified key, computed from the key.
    pub(crate) fn key_id(&self) -> KeyId {
        KeyId::of_public_key(&self.x509.public_key().subject_public_key.data)
    }

    fn extension(&self, is: impl Fn(&ParsedExtension<'a>) -> bool) -> Option<(&ParsedExtension<'a>, bool)> {
        let found = self.x509.extensions().iter().find(|extension| is(extension.parsed_extension()))?;
        Some((found.parsed_extension(), found.critical))
    }
}

/// A name may hold printable ASCII only: a NUL ends a C string, other bytes compare differently elsewhere (HV-09).
fn readable(name: &str) -> Result<&str, Refusal> {
    let plain = name.bytes().all(|byte| byte.is_ascii() && byte != 0);
    if plain { Ok(name) } else { Err(Refusal::SanByte) }
}

/// Certificates reach to year 9999, our clock to 2262: later times are the end of our time.
fn time(seconds: i64) -> UnixTime {
    let limit = i64::MAX.checked_div(1_000_000_000).unwrap_or_default();
    UnixTime::from_secs(seconds.clamp(limit.saturating_neg(), limit))
}
