//! Everything that can go wrong in the authority, and whose fault it is.

use std::path::PathBuf;
use std::time::Duration;

use base_store::StoreError;
use base_store::seal::SealError;
use ca_identity::csr::CsrError;
use ca_identity::{
    BundleError, JwtKeyError, KeyError, KeyId, Refusal, Revoked, Serial, SpiffeId, TokenRefusal, TrustDomain,
};

use crate::entry::EntryError;
use crate::federation::FederationError;
use crate::keys::SlotError;
use crate::lint::LintError;

/// Why the authority did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Configuration: SVIDs shorter than 5 minutes.
    #[error("svid_ttl is {ttl:?}; the shortest lifetime is 5m")]
    TtlTooShort {
        /// As configured.
        ttl: Duration,
    },
    /// Configuration: SVIDs too long for the signing CA.
    #[error(
        "svid_ttl is {}, but a signing CA of {} issues at most a sixth of its lifetime; it would have to live {}",
        days(*ttl), days(*signing), days(*needed)
    )]
    TtlTooLong {
        /// As configured.
        ttl: Duration,
        /// Lifetime of the signing CA as configured.
        signing: Duration,
        /// Lifetime of the signing CA that `ttl` needs.
        needed: Duration,
    },
    /// Configuration: JWT-SVIDs too short or too long.
    #[error("jwt_ttl is {}; it lies between 1m and {}, a sixth of the life of a key", days(*ttl), days(*longest))]
    JwtTtl {
        /// As configured.
        ttl: Duration,
        /// The longest lifetime.
        longest: Duration,
    },
    /// Configuration: the root would end before its signing CA.
    #[error("root_ttl {} is shorter than signing_ttl {}", days(*root), days(*signing))]
    RootTtlTooShort {
        /// As configured.
        root: Duration,
        /// As configured.
        signing: Duration,
    },
    /// Configuration: more than 5 minutes of backdating.
    #[error("backdate is {backdate:?}; the longest is 5m")]
    BackdateTooLong {
        /// As configured.
        backdate: Duration,
    },
    /// Start: the store's records belong to another trust domain.
    #[error("the data directory belongs to trust domain `{stored}`, the configuration says `{configured}`")]
    OtherTrustDomain {
        /// In the records.
        stored: String,
        /// In the configuration.
        configured: TrustDomain,
    },
    /// Start: records name a key whose file is not there.
    #[error(
        "the store knows the {kind} key {key_id}, but its file `{}` is missing; \
         restore it from a backup, or start once with force_new to make a new authority, \
         after which every workload needs new certificates",
        path.display()
    )]
    KeyFileMissing {
        /// Kind of the key.
        kind: &'static str,
        /// Identifier of the key.
        key_id: String,
        /// Where the file should be.
        path: PathBuf,
    },
    /// Start: sealed key files, but no sealing key.
    #[error(
        "`{}` holds sealed keys, but the sealing key `{}` is missing; restore it from a backup, \
         or start once with force_new to make a new authority",
        keys_dir.display(), seal_key.display()
    )]
    SealKeyMissing {
        /// Directory of the key files.
        keys_dir: PathBuf,
        /// Where the sealing key should be.
        seal_key: PathBuf,
    },
    /// Start: an authority was made here before, but the store knows nothing of it.
    #[error(
        "an authority was created in `{}` before, but the store has no record of it; \
         restore the store from a backup, or start once with force_new to make a new authority",
        keys_dir.display()
    )]
    RecordsMissing {
        /// Directory of the key files.
        keys_dir: PathBuf,
    },
    /// A key file cannot be read or written.
    #[error("key file `{}`: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key file does not open under the sealing key.
    #[error("key file `{}` does not open under the sealing key: {source}", path.display())]
    Unseal {
        /// The file.
        path: PathBuf,
        /// What the seal said.
        source: SealError,
    },
    /// The sealing key cannot be used.
    #[error("sealing key: {0}")]
    Seal(#[from] SealError),
    /// A key file holds another key than its record says.
    #[error("key file `{}` does not hold the key {key_id}", path.display())]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// The key that was expected.
        key_id: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored row is not what was written.
    #[error("stored row `{key}` is unreadable: {source}")]
    Row {
        /// Its key.
        key: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A private key cannot be made or read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key cannot sign tokens.
    #[error("key for tokens: {0}")]
    JwtKey(#[from] JwtKeyError),
    /// The random source of the system failed while a token was signed.
    #[error("the token could not be signed")]
    TokenUnsigned,
    /// IS-06: the finished token does not verify, or says something else. Never released; an alarm.
    #[error("the finished token does not verify: {0}")]
    TokenUnverified(#[source] TokenRefusal),
    /// IS-06: the finished token names somebody or something else. Never released; an alarm.
    #[error("the finished token says something else than was meant")]
    TokenDiffers,
    /// The library cannot build the certificate.
    #[error("cannot build the certificate: {0}")]
    Build(#[from] rcgen::Error),
    /// A time does not fit into a certificate.
    #[error("time does not fit into a certificate: {0}")]
    Time(#[from] time::error::ComponentRange),
    /// Our own bundle does not load.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// IS-06: the finished certificate broke our own profile. Never released; an alarm.
    #[error("the finished certificate breaks the profile: {0}")]
    Lint(#[from] LintError),
    /// IS-06: the finished certificate does not verify. Never released; an alarm.
    #[error("the finished certificate does not verify: {0}")]
    Unverified(#[source] Refusal),
    /// The clock stands more than a minute before the last issue.
    #[error("the clock is behind the last issue; nothing is signed until it has caught up")]
    ClockBehind,
    /// The remaining life of the signing CA or the entry leaves no room for a certificate.
    #[error("the signing authority or the entry ends before a certificate could begin")]
    NoLifetime,
    /// No active signing CA.
    #[error("there is no active signing authority")]
    NoSigningKey,

    /// The request is malformed or proves nothing.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// IS-02: the request carries a key of the authority.
    #[error("the key of the certificate request is an authority's key")]
    AuthorityKey,
    /// JW-07: a token for nobody, for too many, or for an unusable name.
    #[error("a token is for 1 to 8 audiences, each of 1 to 1024 bytes, and with all of them at most 8 KiB")]
    Audience,
    /// More tokens in a second than one agent gets (identity.md 14).
    #[error("`{0}` asked for too many tokens in one second; slow down")]
    TooManyTokens(SpiffeId),
    /// The token is unknown, used or expired. One text for all three.
    #[error("the join token is unknown, expired or already used")]
    TokenRefused,
    /// A join token would live too long, or not at all.
    #[error("a join token lives between 1s and 24h, not {ttl:?}")]
    TokenTtl {
        /// As asked.
        ttl: Duration,
    },
    /// The requester is no agent of this authority.
    #[error("`{0}` is not an attested agent")]
    NotAnAgent(SpiffeId),
    /// RV-02: nothing is done for this agent.
    #[error("the agent `{0}` is banned; `portcullis agent evict` at the authority lifts that")]
    AgentBanned(SpiffeId),
    /// NA-05: an agent renews before its SVID ends.
    #[error("the SVID of the agent `{0}` has ended; it has to attest anew")]
    AgentExpired(SpiffeId),
    /// NA-06: another SVID of the same agent is in use.
    #[error("another SVID of the agent `{0}` is in use; this one was replaced")]
    AgentSuperseded(SpiffeId),
    /// No such agent.
    #[error("there is no agent `{0}`; `portcullis agent list` shows those there are")]
    UnknownAgent(SpiffeId),
    /// No such entry.
    #[error("there is no entry `{0}`")]
    UnknownEntry(String),
    /// IS-03: the entry belongs to another agent.
    #[error("the entry `{entry}` does not belong to `{agent}`")]
    ForeignEntry {
        /// The entry.
        entry: String,
        /// Who asked.
        agent: SpiffeId,
    },
    /// IS-03: the entry's time is over.
    #[error("the entry `{0}` has expired")]
    EntryExpired(String),
    /// IS-04: the gate refused.
    #[error("policy refused the issuance")]
    GateRefused {
        /// The recorded decision.
        decision_id: String,
    },
    /// RV-03: the identity is denied.
    #[error("`{0}` is revoked; nothing is issued for it")]
    Revoked(SpiffeId),
    /// It is denied already.
    #[error("`{0}` is revoked already")]
    AlreadyRevoked(Revoked),
    /// Nothing of that name is denied.
    #[error("nothing called `{0}` is revoked; `portcullis svid revocations` lists what is")]
    NotRevoked(String),
    /// A key of the authority that was revoked does not come back.
    #[error("the key {0} was revoked for good; what it issued is issued anew by the active one")]
    RevokedForGood(KeyId),
    /// The records know no such certificate, so its issuer is not known either.
    #[error(
        "no live certificate with serial {0} was issued here; name its issuer as well, or give the certificate file"
    )]
    UnknownCertificate(Serial),
    /// The records do not say when it ends.
    #[error("the records do not say when that ends; say until when it is to be denied")]
    NoEnd,
    /// A role of this process cannot be revoked by itself.
    #[error(
        "`{0}` is a role of this process, which would end with it; stop the process, or revoke one certificate of it by serial"
    )]
    OwnRole(SpiffeId),
    /// The key signs tokens.
    #[error("the key `{0}` is in use; `portcullis ca show` tells its state, and only an old key is revoked")]
    KeyInUse(String),
    /// A `kid` or `jti` that cannot be recorded.
    #[error("a kid or jti has 1 to 256 bytes and no control characters")]
    RevokedName,
    /// AU-04: the state of the keys does not allow the step.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A reason that cannot be recorded.
    #[error("a reason has 1 to 200 bytes and no control characters")]
    Reason,
    /// The set is full (identity.md 14).
    #[error(
        "{0} revocations are in force, which is as many as there may be; lift some, or revoke an authority instead"
    )]
    TooManyRevocations(usize),
    /// An identity outside the own trust domain.
    #[error("`{0}` is not in the trust domain of this authority")]
    ForeignId(SpiffeId),
    /// An entry breaks a rule.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A relationship or a bundle of another trust domain breaks a rule.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// There is no relationship with that trust domain.
    #[error("there is no relationship with `{0}`; `portcullis federation list` shows those there are")]
    UnknownFederation(TrustDomain),
    /// There is one already.
    #[error("there is a relationship with `{0}` already; `portcullis federation update` changes it")]
    FederationExists(TrustDomain),
    /// EN-02: the same SPIFFE ID, parent and selectors are registered already.
    #[error("the same SPIFFE ID, parent and selectors are registered as entry `{id}`")]
    AlreadyExists {
        /// The entry that exists.
        id: String,
    },
    /// EN-04: the entry changed since it was read.
    #[error("the entry `{id}` changed meanwhile; it is at revision {current}")]
    Stale {
        /// The entry.
        id: String,
        /// Its revision now.
        current: u64,
    },
}

/// Whose fault an error is, for the one function that makes statuses of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is wrong and will be wrong again.
    Request,
    /// The requester may not.
    Denied,
    /// Nothing of that name.
    NotFound,
    /// The world changed; read again and retry.
    Conflict,
    /// The base of a conditional write is stale.
    Stale,
    /// More than this requester's share.
    Limited,
    /// We cannot, at the moment.
    Unavailable,
    /// We are broken.
    Internal,
}

impl AuthorityError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Csr(_)
            | Self::AuthorityKey
            | Self::Audience
            | Self::TokenTtl { .. }
            | Self::Entry(_)
            | Self::Federation(_)
            | Self::ForeignId(_)
            | Self::NoEnd
            | Self::RevokedName
            | Self::Reason => Fault::Request,
            Self::TokenRefused
            | Self::NotAnAgent(_)
            | Self::AgentBanned(_)
            | Self::AgentExpired(_)
            | Self::AgentSuperseded(_)
            | Self::ForeignEntry { .. }
            | Self::EntryExpired(_)
            | Self::Revoked(_)
            | Self::GateRefused { .. } => Fault::Denied,
            Self::UnknownEntry(_)
            | Self::UnknownAgent(_)
            | Self::UnknownCertificate(_)
            | Self::NotRevoked(_)
            | Self::UnknownFederation(_) => Fault::NotFound,
            Self::AlreadyExists { .. }
            | Self::FederationExists(_)
            | Self::AlreadyRevoked(_)
            | Self::RevokedForGood(_)
            | Self::OwnRole(_)
            | Self::KeyInUse(_)
            | Self::Slot(_)
            | Self::TooManyRevocations(_) => Fault::Conflict,
            Self::Stale { .. } => Fault::Stale,
            Self::TooManyTokens(_) => Fault::Limited,
            Self::ClockBehind | Self::NoLifetime | Self::NoSigningKey | Self::Store(_) => Fault::Unavailable,
            _ => Fault::Internal,
        }
    }

    /// IS-06: what was signed is not what was meant.
    pub(crate) fn is_post_check(&self) -> bool {
        matches!(self, Self::Lint(_) | Self::Unverified(_) | Self::TokenUnverified(_) | Self::TokenDiffers)
    }

    /// A stable word for problem documents and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Csr(_) => "csr_invalid",
            Self::AuthorityKey => "authority_key",
            Self::Audience => "audience_invalid",
            Self::TooManyTokens(_) => "too_many_tokens",
            Self::TokenRefused => "token_refused",
            Self::TokenTtl { .. } => "token_ttl",
            Self::NotAnAgent(_) => "not_an_agent",
            Self::AgentBanned(_) => "agent_banned",
            Self::AgentExpired(_) => "agent_expired",
            Self::AgentSuperseded(_) => "agent_superseded",
            Self::UnknownAgent(_) => "unknown_agent",
            Self::UnknownEntry(_) => "unknown_entry",
            Self::ForeignEntry { .. } => "foreign_entry",
            Self::EntryExpired(_) => "entry_expired",
            Self::GateRefused { .. } => "gate_refused",
            Self::Revoked(_) => "revoked",
            Self::AlreadyRevoked(_) => "already_revoked",
            Self::NotRevoked(_) => "not_revoked",
            Self::RevokedForGood(_) => "revoked_for_good",
            Self::UnknownCertificate(_) => "unknown_certificate",
            Self::NoEnd => "no_end",
            Self::OwnRole(_) => "own_role",
            Self::KeyInUse(_) => "key_in_use",
            Self::Slot(fault) => fault.code(),
            Self::RevokedName => "name_invalid",
            Self::Reason => "reason_invalid",
            Self::TooManyRevocations(_) => "too_many_revocations",
            Self::ForeignId(_) => "foreign_trust_domain",
            Self::Entry(_) => "entry_invalid",
            Self::Federation(fault) => fault.code(),
            Self::UnknownFederation(_) => "unknown_federation",
            Self::FederationExists(_) => "federation_exists",
            Self::AlreadyExists { .. } => "already_exists",
            Self::Stale { .. } => "stale_revision",
            Self::ClockBehind => "clock_behind",
            Self::NoLifetime => "no_lifetime",
            Self::NoSigningKey => "no_signing_key",
            Self::Store(_) => "store_unavailable",
            _ => "internal",
        }
    }
}

/// `36h`, `12d`, `90m`: the largest unit that divides evenly, as the configuration file writes it.
fn days(duration: Duration) -> String {
    let secs = duration.as_secs();
    for (unit, size) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if secs >= size && secs.is_multiple_of(size) {
            return format!("{}{unit}", secs.checked_div(size).unwrap_or_default());
        }
    }
    format!("{secs}s")
}
