//! Handshakes in memory: no socket, no runtime, a clock that stands still.
#![expect(clippy::arithmetic_side_effects, reason = "times of ports saturate")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base_ports::ManualClock;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, NamedGroup, ServerConnection,
};

use super::*;
use crate::testing::{self, BadLeaf, TestCa};
use crate::{IdentitySnapshot, PrivateKey, Refusal, Usage, X509Svid};

struct Pair {
    client: ClientConnection,
    server: ServerConnection,
}

impl Pair {
    fn new(client: &Arc<Trust>, expected: Expected, server: &Arc<Trust>, auth: ClientAuth) -> Self {
        let name = ServerName::try_from("anything.test").unwrap();
        let client = client_config(client, expected, &[b"h2", b"http/1.1"]);
        let server = server_config(server, auth, &[b"h2"]);
        Self {
            client: ClientConnection::new(client, name).unwrap(),
            server: ServerConnection::new(server).unwrap(),
        }
    }

    /// Runs to the end; the first error of either side ends it.
    fn shake(&mut self) -> Result<(), Error> {
        for _ in 0..8 {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            self.server.read_tls(&mut wire.as_slice()).unwrap();
            self.server.process_new_packets()?;
            let mut wire = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut wire).unwrap();
            }
            self.client.read_tls(&mut wire.as_slice()).unwrap();
            self.client.process_new_packets()?;
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        Ok(())
    }
}

fn ca() -> TestCa {
    TestCa::new("example.org", testing::now())
}

fn any(ca: &TestCa) -> Expected {
    Expected::TrustDomain(ca.trust_domain().clone())
}

/// A server that is valid a day earlier, for clients whose clock is late.
fn long_lived(ca: &TestCa) -> X509Svid {
    let key = PrivateKey::generate_p256().unwrap();
    let leaf = ca.leaf(&key, |params| {
        params.subject_alt_names = vec![testing::uri(ca.id("/orders").as_str())];
        params.not_before = testing::date(testing::now() - Duration::from_secs(86_400));
    });
    X509Svid::new(vec![leaf, ca.signing().clone()], key).unwrap()
}

/// A client whose clock lets it show even an expired SVID.
fn showing(ca: &TestCa, own: X509Svid) -> Arc<Trust> {
    let client = Trust::new(Arc::new(ManualClock::new(testing::now().min(own.not_after))));
    client.publish(ca.snapshot(Some(own))).unwrap();
    client
}

#[test]
fn tl_01_a_handshake_of_two_svids_uses_tls_1_3_and_the_hybrid_group() {
    let ca = ca();
    let (web, orders) = (ca.trust(Some(ca.svid("/web"))), ca.trust(Some(ca.svid("/orders"))));
    let expected = Expected::Ids(vec![ca.id("/orders")]);
    let mut pair = Pair::new(&web, expected, &orders, ClientAuth::Required);
    pair.shake().unwrap();

    let seen = peer(&orders, pair.server.peer_certificates(), Usage::Client).unwrap().unwrap();
    assert_eq!(seen.id, ca.id("/web"));
    assert_eq!(seen.generation, orders.generation());
    let seen = peer(&web, pair.client.peer_certificates(), Usage::Server).unwrap().unwrap();
    assert_eq!(seen.id, ca.id("/orders"));
    assert_eq!(pair.server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = pair.server.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(pair.server.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn tl_02_resumption_is_never_offered_and_never_happens() {
    let ca = ca();
    let (web, orders) = (ca.trust(Some(ca.svid("/web"))), ca.trust(Some(ca.svid("/orders"))));
    let server = server_config(&orders, ClientAuth::Required, &[]);
    assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    let client = client_config(&web, any(&ca), &[]);
    assert!(!client.enable_early_data);
    for _ in 0..3 {
        let name = ServerName::try_from("same.test").unwrap();
        let mut pair = Pair {
            client: ClientConnection::new(Arc::clone(&client), name).unwrap(),
            server: ServerConnection::new(Arc::clone(&server)).unwrap(),
        };
        pair.shake().unwrap();
        assert_ne!(pair.client.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(pair.client.tls13_tickets_received(), 0);
    }
}

/// Counts the names of authorities that a server sends.
#[derive(Debug)]
struct CountNames(std::sync::atomic::AtomicUsize);

impl rustls::client::ResolvesClientCert for CountNames {
    fn resolve(
        &self,
        names: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.store(names.len(), std::sync::atomic::Ordering::SeqCst);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn tls_02_the_certificate_request_lists_no_authorities() {
    let ca = ca();
    let orders = ca.trust(Some(ca.svid("/orders")));
    let mut client = ClientConfig::clone(&client_config(&ca.trust(None), any(&ca), &[b"h2"]));
    let counted = Arc::new(CountNames(usize::MAX.into()));
    client.client_auth_cert_resolver = Arc::<CountNames>::clone(&counted);
    let name = ServerName::try_from("a.test").unwrap();
    let server = server_config(&orders, ClientAuth::Optional, &[b"h2"]);
    let mut pair = Pair {
        client: ClientConnection::new(Arc::new(client), name).unwrap(),
        server: ServerConnection::new(server).unwrap(),
    };
    pair.shake().unwrap();
    assert_eq!(counted.0.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn tls_02_no_common_protocol_ends_the_handshake() {
    let ca = ca();
    let (web, orders) = (ca.trust(Some(ca.svid("/web"))), ca.trust(Some(ca.svid("/orders"))));
    let name = ServerName::try_from("a.test").unwrap();
    let mut pair = Pair {
        client: ClientConnection::new(client_config(&web, any(&ca), &[b"h3"]), name).unwrap(),
        server: ServerConnection::new(server_config(&orders, ClientAuth::Required, &[b"h2"])).unwrap(),
    };
    assert_eq!(pair.shake(), Err(Error::NoApplicationProtocol));
}

#[test]
fn a_client_without_certificate_passes_only_where_certificates_are_optional() {
    let ca = ca();
    let (nobody, orders) = (ca.trust(None), ca.trust(Some(ca.svid("/orders"))));
    let error = Pair::new(&nobody, any(&ca), &orders, ClientAuth::Required).shake().unwrap_err();
    assert_eq!(error, Error::NoCertificatesPresented);
    assert_eq!(refusal_of(&error), Some(Refusal::NoCertificate));
    for auth in [ClientAuth::Optional, ClientAuth::None] {
        let mut pair = Pair::new(&nobody, any(&ca), &orders, auth);
        pair.shake().unwrap();
        assert_eq!(peer(&orders, pair.server.peer_certificates(), Usage::Client), Ok(None));
    }
}

#[test]
fn tl_03_hostile_clients_are_refused_with_their_reason_also_where_certificates_are_optional() {
    let ca = ca();
    let orders = ca.trust(Some(long_lived(&ca)));
    for kind in BadLeaf::ALL {
        let (chain, key) = ca.bad(kind);
        // Some chains are so bad that no SVID can be made of them; those never reach a handshake of ours.
        let Ok(own) = X509Svid::new(chain, key) else { continue };
        let client = showing(&ca, own);
        for auth in [ClientAuth::Required, ClientAuth::Optional] {
            let error = Pair::new(&client, any(&ca), &orders, auth).shake().unwrap_err();
            assert_eq!(refusal_of(&error), Some(kind.refusal()), "{kind:?}");
        }
    }
}

#[test]
fn alerts_say_what_tls_has_a_word_for_and_nothing_more() {
    let ca = ca();
    let orders = ca.trust(Some(long_lived(&ca)));
    let alert = |kind| {
        let (chain, key) = ca.bad(kind);
        let own = X509Svid::new(chain, key).unwrap();
        let client = showing(&ca, own);
        let mut pair = Pair::new(&client, any(&ca), &orders, ClientAuth::Required);
        pair.shake().unwrap_err();
        let mut wire = Vec::new();
        while pair.server.wants_write() {
            pair.server.write_tls(&mut wire).unwrap();
        }
        pair.client.read_tls(&mut wire.as_slice()).unwrap();
        match pair.client.process_new_packets() {
            Err(Error::AlertReceived(alert)) => alert,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(alert(BadLeaf::Expired), AlertDescription::CertificateExpired);
    assert_eq!(alert(BadLeaf::SelfSigned), AlertDescription::UnknownCA);
    assert_eq!(alert(BadLeaf::NoKeyUsage), AlertDescription::CertificateUnknown);
}

#[test]
fn a_client_accepts_only_the_server_that_it_expects() {
    let ca = ca();
    let (web, orders) = (ca.trust(Some(ca.svid("/web"))), ca.trust(Some(ca.svid("/orders"))));
    let other = TestCa::new("other.example", testing::now());
    for expected in [Expected::Ids(vec![ca.id("/billing")]), Expected::Ids(Vec::new()), any(&other)] {
        let error = Pair::new(&web, expected, &orders, ClientAuth::Required).shake().unwrap_err();
        assert_eq!(refusal_of(&error), Some(Refusal::UnexpectedId { seen: ca.id("/orders") }));
    }
    let stranger = other.trust(Some(other.svid("/orders")));
    let error = Pair::new(&web, any(&ca), &stranger, ClientAuth::None).shake().unwrap_err();
    let unknown = Refusal::UnknownTrustDomain(other.trust_domain().clone());
    assert_eq!(refusal_of(&error), Some(unknown.clone()));
    assert_eq!(refusal_in(&io::Error::other(error)), Some(unknown));
}

#[test]
fn tl_05_a_publication_changes_the_next_handshake_and_xt_34_re_judges_the_open_one() {
    let ca = ca();
    let (web, orders) = (ca.trust(Some(ca.svid("/web"))), ca.trust(Some(ca.svid("/orders"))));
    let config = server_config(&orders, ClientAuth::Required, &[]);
    let serial_seen = || {
        let name = ServerName::try_from("a.test").unwrap();
        let client = client_config(&web, any(&ca), &[]);
        let mut pair = Pair {
            client: ClientConnection::new(client, name).unwrap(),
            server: ServerConnection::new(Arc::clone(&config)).unwrap(),
        };
        let answer = pair.shake();
        answer.map(|()| (peer(&web, pair.client.peer_certificates(), Usage::Server).unwrap().unwrap(), pair))
    };
    let (before, open) = serial_seen().unwrap();
    let renewed = Arc::new(ca.svid("/orders"));
    let generation = orders.update(|snapshot| snapshot.own = Some(Arc::clone(&renewed))).unwrap();
    assert_eq!(generation, 2);
    let (after, _) = serial_seen().unwrap();
    assert_ne!(before.serial, after.serial);
    assert_eq!(after.serial, renewed.serial);

    orders.update(|snapshot| snapshot.revoked.deny(&crate::Revoked::Id(ca.id("/web")))).unwrap();
    let again = peer(&orders, open.server.peer_certificates(), Usage::Client);
    assert_eq!(again, Err(Refusal::RevokedId));
    assert_eq!(serial_seen().map(drop).map_err(|error| refusal_of(&error)), Err(Some(Refusal::RevokedId)));
}

#[test]
fn vs_12_a_chain_is_verified_once_per_generation_and_never_beyond_its_end() {
    let ca = ca();
    let clock = Arc::new(ManualClock::new(testing::now()));
    let trust = Trust::new(Arc::<ManualClock>::clone(&clock));
    trust.publish(ca.snapshot(None)).unwrap();
    let chain = ca.svid("/web").chain;
    let ask = || peer(&trust, Some(&chain), Usage::Client);
    let first = ask().unwrap().unwrap();
    assert_eq!((ask().unwrap().unwrap(), trust.accepted.len()), (first, 1));
    assert!(peer(&trust, Some(&chain), Usage::Server).is_ok());
    assert_eq!(trust.accepted.len(), 2);
    trust.publish(ca.snapshot(None)).unwrap();
    assert_eq!(ask().unwrap().unwrap().generation, 2);
    assert_eq!(trust.accepted.len(), 1);
    clock.advance(Duration::from_secs(3601));
    assert_eq!(ask(), Err(Refusal::Expired));
}

#[test]
fn an_expired_own_svid_is_never_shown() {
    let ca = ca();
    let clock = Arc::new(ManualClock::new(testing::now()));
    let orders = Trust::new(Arc::<ManualClock>::clone(&clock));
    orders.publish(ca.snapshot(Some(ca.svid("/orders")))).unwrap();
    let web = ca.trust(Some(ca.svid("/web")));
    assert!(Pair::new(&web, any(&ca), &orders, ClientAuth::None).shake().is_ok());
    clock.advance(Duration::from_secs(3601));
    assert!(Pair::new(&web, any(&ca), &orders, ClientAuth::None).shake().is_err());
}

#[test]
fn a_clock_that_runs_back_is_followed_for_a_minute_only() {
    let clock = Arc::new(ManualClock::new(testing::now()));
    let trust = Trust::new(Arc::<ManualClock>::clone(&clock));
    assert_eq!(trust.now(), testing::now());
    clock.set_wall(testing::now() - Duration::from_secs(30));
    assert_eq!(trust.now(), testing::now() - Duration::from_secs(30));
    clock.set_wall(testing::now() - Duration::from_secs(3600));
    assert_eq!(trust.now(), testing::now() - Duration::from_secs(60));
}

#[test]
fn before_the_first_publication_nobody_is_trusted() {
    let ca = ca();
    let trust = Trust::new(Arc::new(ManualClock::new(testing::now())));
    assert_eq!(trust.generation(), 0);
    assert!(matches!(
        peer(&trust, Some(&ca.svid("/web").chain), Usage::Client),
        Err(Refusal::UnknownTrustDomain(_))
    ));
    let own = IdentitySnapshot { own: Some(Arc::new(ca.svid("/a"))), ..IdentitySnapshot::default() };
    assert_eq!(trust.publish(own).unwrap(), 1);
    assert!(PrivateKey::generate_p256().is_ok());
}

#[test]
fn tl_10_an_alert_has_the_name_of_the_rfc() {
    let of = |error: Error| alert_in(&io::Error::new(io::ErrorKind::InvalidData, error));
    for (alert, name) in [
        (AlertDescription::CertificateRequired, "certificate_required"),
        (AlertDescription::UnknownCA, "unknown_ca"),
        (AlertDescription::BadCertificate, "bad_certificate"),
    ] {
        assert_eq!(of(Error::AlertReceived(alert)).as_deref(), Some(name));
    }
    assert_eq!(of(Error::DecryptError), None);
    assert_eq!(alert_in(&io::ErrorKind::BrokenPipe.into()), None);
}

#[test]
fn bn_02_own_svid_bundles_and_deny_set_are_one_value_behind_one_swap() {
    // Whatever of one state was seen together with a part of another would not fit.
    let states: Vec<IdentitySnapshot> = (1..=4_u8)
        .map(|n| {
            let ca = ca();
            let mut state = ca.snapshot(Some(ca.svid("/web")));
            (0..n).for_each(|n| state.revoked.deny(&crate::Revoked::Id(ca.id(&format!("/gone/{n}")))));
            state
        })
        .collect();
    let trust = Trust::new(Arc::new(ManualClock::new(testing::now())));
    trust.publish(states[0].clone()).unwrap();
    let held = trust.snapshot();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..400 {
                trust.publish(states[round % 4].clone()).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 401 {
                    let seen = trust.snapshot();
                    assert!(seen.generation >= last);
                    last = seen.generation;
                    let own = seen.own.as_ref().unwrap();
                    let peer = crate::verify_svid(&own.chain, &seen, Usage::Server, testing::now()).unwrap();
                    assert_eq!(peer.generation, seen.generation);
                    let which =
                        states.iter().position(|state| state.own.as_ref().unwrap().serial == own.serial);
                    assert_eq!(seen.revoked.len(), which.unwrap() + 1);
                }
            });
        }
        writer.join().unwrap();
    });
    // What somebody holds stays as it was.
    assert_eq!((held.generation, held.revoked.len()), (1, 1));
    assert_eq!(held.own.as_ref().unwrap().serial, states[0].own.as_ref().unwrap().serial);
}
