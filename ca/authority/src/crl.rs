//! Revocation lists (RFC 5280 5) for those who know nothing of the deny set: one for each root and signing CA.
//!
//! A function of what is revoked, key and time; `authority/crls` collects and publishes. No list is let go that a stranger
//! cannot read, that names another issuer, or that another key signed. Our own verifiers never look at one (RV-06).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base_ports::UnixTime;
use ca_identity::{KeyId, PrivateKey, Serial, TrustDomain};
use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::error::AuthorityError;
use crate::keys::{KeyInfo, KeyKind};
use crate::lint::LintError;
use crate::template;

/// How long a list is good (identity.md 3).
const LIFETIME: Duration = Duration::from_secs(3600);
/// So long before its end it is made anew: at half of its time.
pub(crate) const RENEWED: Duration = Duration::from_secs(1800);

/// The revocation list of one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crl {
    /// Root or signing CA.
    pub kind: KeyKind,
    /// The key that signed it.
    pub issuer: KeyId,
    /// Grows with each list of that authority.
    pub number: u64,
    /// Since when it is good.
    pub this_update: UnixTime,
    /// Until when it is good.
    pub next_update: UnixTime,
    /// How many certificates it names.
    pub entries: usize,
    /// The list itself.
    pub der: Arc<[u8]>,
}

/// Why and since when a certificate is revoked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) since: UnixTime,
    /// Everything that its identity holds was taken back with it.
    pub(crate) is_whole_identity: bool,
}

/// The revoked certificates of one authority.
pub(crate) type Entries = BTreeMap<Serial, Entry>;

/// Makes and signs the list of `authority`; `backdate` is for those whose clocks are late.
pub(crate) fn build(
    authority: (&KeyInfo, &PrivateKey),
    domain: &TrustDomain,
    entries: &Entries,
    number: u64,
    (now, backdate): (UnixTime, Duration),
) -> Result<Crl, AuthorityError> {
    let (slot, key) = authority;
    let now = UnixTime::from_secs(now.as_secs());
    let (this_update, next_update) = ((now - backdate).max(slot.not_before), now + LIFETIME);
    let date = |time: UnixTime| OffsetDateTime::from_unix_timestamp(time.as_secs());
    let revoked_certs = entries
        .iter()
        .map(|(serial, entry)| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial.as_bytes()),
                revocation_time: date(entry.since)?,
                reason_code: entry.is_whole_identity.then_some(RevocationReason::PrivilegeWithdrawn),
                invalidity_date: None,
            })
        })
        .collect::<Result<_, time::error::ComponentRange>>()?;
    let params = CertificateRevocationListParams {
        this_update: date(this_update)?,
        next_update: date(next_update)?,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::PreSpecified(slot.key_id.as_bytes().to_vec()),
    };
    let issuer = Issuer::new(template::issuer(slot.kind, domain, slot.key_id), key.to_pair()?);
    let signed = params.signed_by(&issuer)?;
    let der: &[u8] = signed.der();
    check(der, slot, entries.len())?;
    Ok(Crl {
        kind: slot.kind,
        issuer: slot.key_id,
        number,
        this_update,
        next_update,
        entries: entries.len(),
        der: der.into(),
    })
}

/// Reads the finished list as a stranger would (IS-06).
fn check(der: &[u8], slot: &KeyInfo, entries: usize) -> Result<(), AuthorityError> {
    let unfit = || AuthorityError::from(LintError::Field("the revocation list"));
    let certificate = slot.certificate().ok_or_else(unfit)?;
    let (_, certificate) = X509Certificate::from_der(certificate).or(Err(unfit()))?;
    let Ok(([], list)) = CertificateRevocationList::from_der(der) else { return Err(unfit()) };
    let is_by_it = list.verify_signature(certificate.public_key()).is_ok()
        && list.issuer().as_raw() == certificate.subject().as_raw();
    let fits = is_by_it && list.iter_revoked_certificates().count() == entries && list.crl_number().is_some();
    if fits { Ok(()) } else { Err(unfit()) }
}
