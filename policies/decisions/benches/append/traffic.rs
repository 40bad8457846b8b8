//! Records that differ as calls of real traffic do: 2,000 callers and 300 methods with a skew, one denial in a hundred.

use std::sync::Arc;

use base_ports::{Clock, SystemClock};
use policies_engine::{
    Action, Audit, ConnectionFacts, Credential, CredentialKind, Decision, DecisionRecord, Effect, Numbers,
    OwnedFacts, OwnedRequest, Principal, Protocol, Reason, Resource, Trace, Versions,
};

const CALLERS: u64 = 2_000;
const METHODS: u64 = 300;

/// Records that differ as calls of real traffic do.
pub(crate) struct Traffic {
    state: u64,
    has_trace: bool,
    versions: Arc<Versions>,
    credentials: Vec<Arc<Credential>>,
    clock: SystemClock,
}

impl Traffic {
    pub(crate) fn new(seed: u64, has_trace: bool) -> Traffic {
        let credential = |caller: u64| {
            let mut fingerprint = [0; 32];
            fingerprint[..8].copy_from_slice(&mix(caller).to_le_bytes());
            fingerprint[8..16].copy_from_slice(&mix(caller + 1).to_le_bytes());
            Arc::new(Credential {
                kind: CredentialKind::X509,
                serial: Some(format!("{:016x}", mix(caller))),
                fingerprint: Some(fingerprint),
                issuer: Some("a9f0c2d4".to_owned()),
                not_after: Some(base_ports::UnixTime::from_secs(1_795_333_270)),
            })
        };
        let versions = Versions {
            numbers: Numbers { epoch: 1, snapshot: 1207, policies: 41 },
            manifest: [0x51; 32],
            schema: [0x77; 32],
            entities: [0x0b; 32],
            routes: [0xe3; 32],
            engine: "portcullis 0.1.0 cedar 4.14.1".into(),
            declared: Arc::default(),
            homes: Arc::default(),
            tickets: Arc::default(),
        };
        Traffic {
            state: seed,
            has_trace,
            versions: Arc::new(versions),
            credentials: (0..CALLERS).map(credential).collect(),
            clock: SystemClock,
        }
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Small numbers far more often than large ones.
    fn skewed(&mut self, below: u64) -> u64 {
        let unit = (self.random() >> 11) as f64 / (1_u64 << 53) as f64;
        (unit.powi(3) * below as f64) as u64
    }

    pub(crate) fn next(&mut self) -> DecisionRecord {
        let (caller, method) = (self.skewed(CALLERS), self.skewed(METHODS));
        let is_denied = self.random().is_multiple_of(100);
        let reason = if is_denied { Reason::NoPermit } else { Reason::Permit };
        let name = format!("shop.S{}/M{}", method / 8, method % 8);
        let mut record = DecisionRecord::new(
            Decision::refusal(reason),
            Principal::workload(&format!("spiffe://example.org/ns/team-{}/sa/client-{caller}", caller % 20)),
            Action::Grpc,
            Resource::method(&name).within("orders", Some("shop")),
            self.clock.now(),
        );
        record.effect = if is_denied { Effect::Deny } else { Effect::Allow };
        record.audit = Audit::BestEffort;
        if !is_denied {
            record.determining = [format!("orders-{method}").into()].into();
        }
        record.credential = Some(Arc::clone(&self.credentials[caller as usize]));
        record.versions = Some(Arc::clone(&self.versions));
        record.decide_ns = 40 + (self.random() % 200) as u32;
        let connection = ConnectionFacts {
            mtls: true,
            tls: 13,
            source_ip: std::net::IpAddr::from([10, 0, (caller / 250) as u8, (caller % 250) as u8]),
            sni: Some("orders".into()),
            listener: "public".into(),
            protocol: Protocol::Grpc,
        };
        let request = OwnedRequest {
            method: "POST".to_owned(),
            host: "orders".to_owned(),
            path: format!("/{name}"),
            media_type: Some("application/grpc".to_owned()),
            ..OwnedRequest::default()
        };
        let (service, call) = name.split_once('/').unwrap();
        record.facts = Some(OwnedFacts::new(connection).with_request(request).with_rpc(service, call).into());
        if self.has_trace {
            let mut trace_id = [0; 16];
            trace_id[..8].copy_from_slice(&self.random().to_le_bytes());
            trace_id[8..].copy_from_slice(&self.random().to_le_bytes());
            record.trace = Some(Trace { trace_id, span_id: self.random().to_le_bytes() });
        }
        record
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
