//! JWT-SVIDs that were issued and are used again until half of their life is over (identity.md 3), as a pure cache: input
//! and `now` in, token or nothing out. Bounded in number and bytes. Driven by `agent` alone.

use std::collections::HashMap;

use base_ports::UnixTime;
use ca_identity::{Bundle, RevocationSet, SpiffeId, VerifiedToken};

use crate::upstream::{AgentEntry, SignedToken};

const TOKENS: usize = 1_000;
const BYTES: usize = 16 * 1024 * 1024;

/// What a token was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    entry: String,
    id: SpiffeId,
    audience: Vec<String>,
}

impl Asked {
    pub(crate) fn of(entry: &AgentEntry, audience: &[String]) -> Self {
        Self { entry: entry.id.clone(), id: entry.spiffe_id.clone(), audience: audience.to_vec() }
    }

    fn bytes(&self) -> usize {
        let audience = self.audience.iter().map(String::len).sum::<usize>();
        self.entry.len().saturating_add(self.id.as_str().len()).saturating_add(audience)
    }
}

/// The tokens at hand.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: HashMap<Asked, Held>,
    bytes: usize,
}

struct Held {
    token: String,
    key: String,
    jti: Option<String>,
    issued: UnixTime,
    /// Half of its life.
    until: UnixTime,
    bytes: usize,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("key", &self.key).field("until", &self.until).finish_non_exhaustive()
    }
}

impl Tokens {
    /// A token that was issued for the same and is in the first half of its life, while its key is in the bundle and
    /// nothing of it is in these sets: denied, or to be issued anew.
    pub(crate) fn find(
        &self,
        asked: &Asked,
        bundle: &Bundle,
        unusable: &[&RevocationSet],
        now: UnixTime,
    ) -> Option<String> {
        let held = self.held.get(asked)?;
        let is_young = held.issued <= now && now < held.until;
        let is_known = bundle.jwt_keys().iter().any(|key| key.kid() == held.key);
        let allows =
            |set: &&RevocationSet| set.check_token(&asked.id, &held.key, held.jti.as_deref()).is_ok();
        let is_allowed = unusable.iter().all(allows);
        (is_young && is_known && is_allowed).then(|| held.token.clone())
    }

    /// Keeps a token that verified. What is past its half goes first, then what would go next.
    pub(crate) fn keep(
        &mut self,
        asked: Asked,
        signed: &SignedToken,
        verified: &VerifiedToken,
        now: UnixTime,
    ) {
        let life = verified.expires.saturating_since(signed.issued);
        let bytes = asked.bytes().saturating_add(signed.token.len()).saturating_add(verified.key.len());
        let held = Held {
            token: signed.token.clone(),
            key: verified.key.clone(),
            jti: verified.jti.clone(),
            issued: signed.issued,
            until: signed.issued + life / 2,
            bytes,
        };
        self.forget(&asked);
        if self.held.len() >= TOKENS || self.bytes.saturating_add(bytes) > BYTES {
            self.held.retain(|_, held| now < held.until);
            self.bytes = self.held.values().map(|held| held.bytes).sum();
        }
        while self.held.len() >= TOKENS || self.bytes.saturating_add(bytes) > BYTES {
            let next = self.held.iter().min_by_key(|(_, held)| held.until).map(|(asked, _)| asked.clone());
            let Some(next) = next else { break };
            self.forget(&next);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.held.insert(asked, held);
    }

    fn forget(&mut self, asked: &Asked) {
        if let Some(held) = self.held.remove(asked) {
            self.bytes = self.bytes.saturating_sub(held.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ca_identity::Revoked;
    use ca_identity::testing::{TokenForge, now};

    use super::*;
    use crate::testing::entry;

    fn sign(forge: &TokenForge, seconds: u64) -> (SignedToken, VerifiedToken) {
        let token = forge.composed(Duration::from_secs(seconds));
        let verified = forge.judge(&token).unwrap();
        (SignedToken { token, issued: now() }, verified)
    }

    fn asked(n: usize) -> Asked {
        Asked::of(&entry("a", "/web", 1), &[format!("audience-{n}")])
    }

    #[test]
    fn a_token_is_used_again_for_the_same_until_its_half_and_while_its_key_is_published() {
        let forge = TokenForge::new(now());
        let (signed, verified) = sign(&forge, 300);
        let mut tokens = Tokens::default();
        tokens.keep(asked(1), &signed, &verified, now());
        let bundle = forge.bundle();
        let find = |asked: &Asked, seconds: i64| {
            let at = UnixTime::from_secs(now().as_secs() + seconds);
            tokens.find(asked, &bundle, &[], at)
        };
        assert_eq!(find(&asked(1), 0).as_ref(), Some(&signed.token));
        assert_eq!(find(&asked(1), 149).as_ref(), Some(&signed.token));
        for seconds in [150, 301, -1] {
            assert_eq!(find(&asked(1), seconds), None, "{seconds}");
        }
        let both = ["audience-1".to_owned(), "b".to_owned()];
        let other_entry = Asked::of(&entry("b", "/web", 1), &["audience-1".to_owned()]);
        let other_id = Asked::of(&entry("a", "/api", 1), &["audience-1".to_owned()]);
        for other in [asked(2), Asked::of(&entry("a", "/web", 1), &both), other_entry, other_id] {
            assert_eq!(find(&other, 0), None, "{other:?}");
        }
        let without = Bundle::new(bundle.trust_domain.clone(), Vec::new(), 9).unwrap();
        assert_eq!(tokens.find(&asked(1), &without, &[], now()), None);
        let domain = || bundle.trust_domain.clone();
        let denied = [
            Revoked::Id(SpiffeId::new(&domain(), "/web").unwrap()),
            Revoked::JwtKey(domain(), verified.key.clone()),
            Revoked::Token(domain(), verified.jti.clone().unwrap()),
        ];
        for what in denied {
            let mut revoked = RevocationSet::default();
            revoked.deny(&what);
            assert_eq!(
                tokens.find(&asked(1), &bundle, &[&RevocationSet::default(), &revoked], now()),
                None,
                "RV-03: {what}"
            );
        }
        assert!(!format!("{tokens:?}").contains(&signed.token));
    }

    #[test]
    fn only_so_many_are_held_and_those_that_end_first_go_first() {
        let forge = TokenForge::new(now());
        let (long, short) = (sign(&forge, 600), sign(&forge, 300));
        let mut tokens = Tokens::default();
        tokens.keep(asked(0), &short.0, &short.1, now());
        for n in 1..=TOKENS {
            tokens.keep(asked(n), &long.0, &long.1, now());
        }
        assert_eq!(tokens.held.len(), TOKENS);
        let bundle = forge.bundle();
        assert_eq!(tokens.find(&asked(0), &bundle, &[], now()), None);
        assert!(tokens.find(&asked(1), &bundle, &[], now()).is_some());
        // Past their half they all go at once.
        tokens.keep(asked(0), &long.0, &long.1, now() + Duration::from_secs(300));
        assert_eq!((tokens.held.len(), tokens.bytes), (1, tokens.held[&asked(0)].bytes));
    }

    #[test]
    fn their_bytes_are_bounded_and_counted() {
        let forge = TokenForge::new(now());
        let (signed, verified) = sign(&forge, 300);
        let mut tokens = Tokens::default();
        let large = |n: usize| Asked::of(&entry("a", "/web", 1), &["x".repeat(1024 * 1024), n.to_string()]);
        for n in 0..40 {
            tokens.keep(large(n), &signed, &verified, now());
        }
        assert!((10..16).contains(&tokens.held.len()), "{}", tokens.held.len());
        assert!(tokens.bytes <= BYTES);
        assert_eq!(tokens.bytes, tokens.held.values().map(|held| held.bytes).sum::<usize>());
    }
}
