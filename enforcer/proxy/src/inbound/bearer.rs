//! Callers that name themselves by a token in `authorization` (TL-06, MO5): a JWT-SVID, on a connection without certificate
//! and a listener that names its audience, or the token of a person, on a listener that names the issuer. With a certificate
//! the workload stays who calls, and the person is known besides.
//!
//! Such a call goes on as if it had come over a connection of its own, which ends with the token. Calls that bring the same
//! token share that; the token itself is not kept. A token that is present and not good is 401, never nobody.

use std::sync::Arc;

use base_ports::Now;
use ca_identity::{TokenRefusal, VerifiedToken, issuer_of, token_digest, verify_jwt_svid};
use enforcer_codec::Call;
use parking_lot::Mutex;

use super::{Connection, Stop};
use crate::authorize::not_proven;
use crate::issuer::Person;
use crate::trail::Trail;

/// So many tokens a connection remembers.
const MOST: usize = 16;

/// Who the tokens of a connection named. Only its own calls take the lock, and only where tokens are taken.
#[derive(Debug, Default)]
pub(crate) struct Bearers(Mutex<Vec<([u8; 32], Arc<Connection>)>>);

/// The connection of the caller that a token of the call names; none when there is none, or it is not looked at.
///
/// # Errors
/// When there is a token that is not good.
pub(super) fn named(conn: &Connection, call: &Call) -> Result<Option<Arc<Connection>>, Box<TokenRefusal>> {
    if !takes_svids(conn) && conn.listening.issuers.is_empty() {
        return Ok(None);
    }
    // The codec takes no call with two of them.
    let Some(token) = call.header("authorization").next().and_then(bearer) else { return Ok(None) };
    let digest = token_digest(token);
    let now = conn.worker.clock.now();
    let mut known = conn.bearers.0.lock();
    if let Some((_, named)) = known.iter().find(|(of, named)| *of == digest && now.mono < named.secured.ends)
    {
        return Ok(Some(Arc::clone(named)));
    }
    let named = Arc::new(conn.named_by(judged(conn, token)?, now));
    known.retain(|(_, named)| now.mono < named.secured.ends);
    if known.len() >= MOST {
        known.remove(0);
    }
    known.push((digest, Arc::clone(&named)));
    Ok(Some(named))
}

/// A call whose token is not good, on record.
pub(super) async fn turned_down(
    conn: &Connection,
    call: Call,
    refusal: &TokenRefusal,
    now: Now,
    trail: &mut Trail,
) -> Stop {
    match conn.is_taken_in() {
        Ok(()) => not_proven(conn, trail.call(call, &conn.worker), refusal, now).await.into(),
        Err(fault) => fault.into(),
    }
}

/// What follows the scheme `Bearer` (RFC 6750 2.1); other schemes are the endpoint's.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && (token.is_empty() || token.starts_with(b" "));
    is_bearer.then(|| token.trim_ascii_start())
}

/// Whom a token names.
enum Named {
    Workload(VerifiedToken),
    Person(Person),
}

fn takes_svids(conn: &Connection) -> bool {
    !conn.listening.audience.is_empty() && conn.secured.is_stranger()
}

/// By the keys of the issuer that the token says it is from, else as a JWT-SVID.
fn judged(conn: &Connection, token: &[u8]) -> Result<Named, TokenRefusal> {
    let token = str::from_utf8(token).unwrap_or_default(); // none is no token either
    let issuers = &conn.listening.issuers;
    let said = if issuers.is_empty() { None } else { issuer_of(token) };
    let issuer = said.and_then(|said| issuers.iter().find(|issuer| issuer.url() == said));
    match issuer {
        Some(issuer) => issuer.judge(token, conn.worker.trust.now()).map(Named::Person),
        None if takes_svids(conn) => verified(conn, token).map(Named::Workload),
        None => Err(TokenRefusal::UnknownIssuer),
    }
}

/// For one of the audiences of the listener.
fn verified(conn: &Connection, token: &str) -> Result<VerifiedToken, TokenRefusal> {
    let (snapshot, now) = (conn.worker.trust.snapshot(), conn.worker.trust.now());
    let mut judged = Err(TokenRefusal::NoAudienceExpected);
    for audience in &*conn.listening.audience {
        judged = verify_jwt_svid(token, audience, &snapshot, now);
        if judged != Err(TokenRefusal::WrongAudience) {
            break;
        }
    }
    judged
}

impl Connection {
    /// As if the caller that the token names had a connection of its own.
    fn named_by(&self, token: Named, now: Now) -> Self {
        let mut named = self.copy();
        named.secured = match token {
            Named::Workload(token) => self.secured.named_by(token, now),
            Named::Person(person) => self.secured.on_behalf_of(person, now),
        };
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tl_06_a_bearer_is_told_by_the_scheme_alone() {
        for (value, token) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a", Some("a")),
            ("BEARER ", Some("")),
            ("Bearer", Some("")),
            ("Bearera.b.c", None),
            ("Basic YTpi", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), token.map(str::as_bytes), "{value}");
        }
    }
}
