//! What the authority needs from outside, as values and traits: state, time, and the word of policy.
//!
//! `portcullis` wires Cedar behind the gate and the ledger behind the events (S15). Without a gate nothing is issued.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base_ports::{Clock, Disk, Rng, UnixTime};
use base_store::Store;
use ca_identity::{KeyId, Revoked, Selector, Serial, SpiffeId, TrustDomain};

use crate::entry::EntryRecord;
use crate::federation::{FetchBundle, NewRelationship};
use crate::issue::IssuanceRecord;
use crate::keys::KeyKind;
use crate::revocation::Revocation;
use crate::token::TokenRecord;

/// The outside of an authority.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Entries, agents, tokens, records, slots; never a private key.
    pub store: Arc<dyn Store>,
    /// Where sealed key files go.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Serial numbers, tokens and identifiers come from here.
    pub rng: Arc<dyn Rng>,
    /// Whether an issuance is allowed.
    pub gate: Arc<dyn IssuanceGate>,
    /// Where what happened is told.
    pub events: Arc<dyn Events>,
    /// The way to the bundles of other trust domains.
    pub fetch: Arc<dyn FetchBundle>,
}

/// Decides each issuance; may refuse, never widen (IS-04).
pub trait IssuanceGate: Send + Sync + fmt::Debug {
    /// The answer, recorded under its decision id before it is given.
    fn decide(&self, request: &IssueRequest<'_>) -> GateAnswer;
}

/// What the gate is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IssueRequest<'a> {
    /// The agent, or this process's own agent, that asks.
    pub requester: &'a SpiffeId,
    /// The identity to be certified.
    pub spiffe_id: &'a SpiffeId,
    /// The registration entry with its revision; `None` for agents and own roles.
    pub entry: Option<&'a EntryRecord>,
    /// What kind of holder it is for.
    pub kind: IssueKind,
    /// What it is to hold.
    pub svid: SvidKind,
    /// Whom a token is for; empty for certificates.
    pub audience: &'a [String],
    /// The lifetime after clamping.
    pub ttl: Duration,
    /// Selectors of the entry.
    pub selectors: &'a [Selector],
    /// DNS names that go into the certificate.
    pub dns_names: &'a [String],
    /// How the requester proved itself.
    pub attested_by: &'a str,
}

/// Kinds of SVIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SvidKind {
    /// An X.509 certificate.
    X509,
    /// A JWT.
    Jwt,
}

impl SvidKind {
    /// The word that policies know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        }
    }
}

/// Kinds of holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IssueKind {
    /// A workload with an entry.
    Workload,
    /// An agent that attested.
    Agent,
    /// A role of this process: its agent, its gateway.
    Own,
    /// Whom an administrator names, without an entry.
    Minted,
}

impl IssueKind {
    /// A stable word for records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Agent => "agent",
            Self::Own => "own",
            Self::Minted => "minted",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Workload, Self::Agent, Self::Own, Self::Minted].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The gate's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateAnswer {
    /// Whether to go on.
    pub allow: bool,
    /// The recorded decision.
    pub decision_id: String,
}

/// A gate that refuses everything: the state before policy is wired in (BN-03).
#[derive(Debug, Clone, Copy, Default)]
pub struct ClosedGate;

impl IssuanceGate for ClosedGate {
    fn decide(&self, _: &IssueRequest<'_>) -> GateAnswer {
        GateAnswer { allow: false, decision_id: String::new() }
    }
}

/// Takes what happened. Must not block.
pub trait Events: Send + Sync + fmt::Debug {
    /// One event, after it is durable.
    fn event(&self, event: IdentityEvent);
}

/// What happened in the authority.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum IdentityEvent {
    /// A root was made at first start, or by force. To be said aloud (S23).
    RootCreated {
        /// Whose root it is.
        trust_domain: TrustDomain,
        /// Its key.
        key_id: KeyId,
        /// SHA-256 of its certificate.
        fingerprint: [u8; 32],
        /// End of its validity.
        not_after: UnixTime,
    },
    /// A root, a signing CA or a key for tokens was made and waits.
    KeyPrepared {
        /// What it is for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
        /// End of its validity.
        not_after: UnixTime,
        /// Who did it; `rotation` when its time had come.
        by: String,
    },
    /// It signs from now on.
    KeyActivated {
        /// What it is for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
        /// Who did it; `rotation` when its time had come.
        by: String,
    },
    /// What an old one signed is issued anew.
    KeyTainted {
        /// What it was for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
        /// Who did it.
        by: String,
    },
    /// Nothing that an old one signed is taken any more.
    KeyRevoked {
        /// What it was for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
        /// Who did it.
        by: String,
        /// Why.
        reason: String,
    },
    /// An old one is gone.
    KeyRetired {
        /// What it was for.
        kind: KeyKind,
        /// Its name.
        key_id: KeyId,
    },
    /// A join token was made; the token itself is told to nobody but its creator.
    JoinTokenCreated {
        /// End of its validity.
        expires: UnixTime,
    },
    /// An agent proved itself.
    Attested {
        /// Its new identity.
        agent: SpiffeId,
        /// By what kind of evidence.
        attested_by: &'static str,
    },
    /// Evidence was refused.
    AttestationRefused {
        /// Kind of evidence.
        attested_by: &'static str,
        /// Why.
        reason: String,
    },
    /// An agent is none any more; its host may attest anew.
    AgentEvicted {
        /// Its identity.
        agent: SpiffeId,
        /// Who said so.
        by: String,
    },
    /// Nothing is done for an agent any more, until it is evicted.
    AgentBanned {
        /// Its identity.
        agent: SpiffeId,
        /// Who said so.
        by: String,
        /// Why.
        reason: String,
        /// What was issued through it holds on.
        keep_svids: bool,
    },
    /// A certificate was released; its record is durable.
    Issued(IssuanceRecord),
    /// The certificate that was released last under that serial number was an administrator's wish.
    Minted {
        /// Serial number of the leaf.
        serial: Serial,
        /// The identity.
        spiffe_id: SpiffeId,
        /// Who wished it.
        by: String,
    },
    /// A JWT-SVID was released; its record is durable.
    TokenIssued(TokenRecord),
    /// An issuance was refused.
    IssuanceRefused {
        /// Who asked.
        requester: SpiffeId,
        /// For which identity, when it was known.
        spiffe_id: Option<SpiffeId>,
        /// What it was to hold.
        svid: SvidKind,
        /// Why.
        reason: String,
        /// The same as a stable word.
        code: &'static str,
        /// The gate's decision, when it was the gate.
        decision_id: Option<String>,
    },
    /// Something is denied from now on.
    Revoked(Revocation),
    /// It is not denied any more.
    RevocationLifted {
        /// What.
        what: Revoked,
        /// Who said so.
        by: String,
    },
    /// An entry was registered.
    EntryCreated(Arc<EntryRecord>),
    /// An entry was changed.
    EntryUpdated(Arc<EntryRecord>),
    /// An entry was removed.
    EntryDeleted(Arc<EntryRecord>),
    /// The bundle of another trust domain is fetched from now on.
    FederationCreated {
        /// Whose, where, and who answers there.
        with: NewRelationship,
        /// Who said so.
        by: String,
    },
    /// It is fetched in another way from now on.
    FederationUpdated {
        /// Whose, where, and who answers there.
        with: NewRelationship,
        /// Who said so.
        by: String,
    },
    /// Its identities are not trusted any more.
    FederationDeleted {
        /// Whose.
        trust_domain: TrustDomain,
        /// Who said so.
        by: String,
    },
    /// A new bundle of another trust domain is in force.
    FederatedBundle {
        /// Whose.
        trust_domain: TrustDomain,
        /// Its sequence.
        sequence: u64,
        /// How many roots it has.
        roots: usize,
        /// Who gave it: the endpoint, or a person.
        from: String,
    },
    /// What was offered as its bundle was not taken, or nothing came; the one that is held stays.
    FederationRefused {
        /// Whose.
        trust_domain: TrustDomain,
        /// A stable word.
        code: &'static str,
        /// What exactly.
        detail: String,
    },
    /// Something that a person must look at.
    Alarm {
        /// A stable word.
        code: &'static str,
        /// What it is about.
        detail: String,
    },
}
