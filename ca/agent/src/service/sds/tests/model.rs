//! A client and a session with both directions of the wire between them, under any order of events: changes, requests,
//! refusals, late words, new connections. In the end the client has the newest state and the session knows it (SD-02).

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::generated::sds::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    /// The secret of that name gets another version.
    Change(usize),
    /// It goes, or comes back (delta only).
    Toggle(usize),
    /// The client asks for the name, or gives it back.
    Want(usize),
    /// The session takes the next request from the wire.
    Hear,
    /// The session looks at the state.
    Look,
    /// The client takes the next response from the wire, or refuses it.
    Take { refuses: bool },
    /// The connection breaks and comes back.
    Reconnect,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (0..NAMES.len()).prop_map(Event::Change),
        1 => (0..NAMES.len()).prop_map(Event::Toggle),
        2 => (0..NAMES.len()).prop_map(Event::Want),
        4 => Just(Event::Hear),
        4 => Just(Event::Look),
        4 => any::<bool>().prop_map(|refuses| Event::Take { refuses }),
        1 => Just(Event::Reconnect),
    ];
    proptest::collection::vec(event, 0..60)
}

/// How a kind of client writes requests and reads responses.
trait Wire: Session + Default {
    fn first(client: &Client) -> Self::Request;
    /// After `name` was asked for or given back.
    fn changed(client: &Client, name: &str) -> Self::Request;
    /// The word on a response.
    fn word(client: &Client, nonce: &str, refuses: bool) -> Self::Request;
    /// Nonce, secrets with versions, names that are gone.
    fn read(response: &Self::Response, offered: &[Offered]) -> (String, Offered, Vec<String>);
    /// Whether secrets may go while they are asked for.
    const REMOVES: bool;
}

/// What a client knows.
#[derive(Debug, Default)]
struct Client {
    wanted: BTreeSet<String>,
    has: Offered,
    /// What it refused, and has to live without.
    refused: BTreeSet<(String, String)>,
    nonce: String,
}

impl Wire for Whole {
    fn first(client: &Client) -> DiscoveryRequest {
        DiscoveryRequest { resource_names: client.wanted.iter().cloned().collect(), ..Default::default() }
    }

    fn changed(client: &Client, _: &str) -> DiscoveryRequest {
        DiscoveryRequest { response_nonce: client.nonce.clone(), ..Self::first(client) }
    }

    fn word(client: &Client, nonce: &str, refuses: bool) -> DiscoveryRequest {
        let error_detail = refuses.then(|| no().unwrap());
        DiscoveryRequest { response_nonce: nonce.to_owned(), error_detail, ..Self::first(client) }
    }

    fn read(response: &DiscoveryResponse, sent: &[Offered]) -> (String, Offered, Vec<String>) {
        let at = response.nonce.parse::<usize>().unwrap() - 1;
        assert_eq!(sent[at].len(), response.resources.len());
        (response.nonce.clone(), sent[at].clone(), Vec::new())
    }

    const REMOVES: bool = false;
}

impl Wire for Delta {
    fn first(client: &Client) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            resource_names_subscribe: client.wanted.iter().cloned().collect(),
            initial_resource_versions: client.has.clone(),
            ..Default::default()
        }
    }

    fn changed(client: &Client, name: &str) -> DeltaDiscoveryRequest {
        if client.wanted.contains(name) { delta("", &[name], &[]) } else { delta("", &[], &[name]) }
    }

    fn word(_: &Client, nonce: &str, refuses: bool) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest { error_detail: refuses.then(|| no().unwrap()), ..delta(nonce, &[], &[]) }
    }

    fn read(response: &DeltaDiscoveryResponse, _: &[Offered]) -> (String, Offered, Vec<String>) {
        let sent = response.resources.iter().map(|sent| (sent.name.clone(), sent.version.clone()));
        (response.nonce.clone(), sent.collect(), response.removed_resources.clone())
    }

    const REMOVES: bool = true;
}

struct World<S: Wire> {
    offered: Offered,
    versions: u64,
    client: Client,
    session: S,
    /// What each response of this connection held; the wire has only bytes.
    sent: Vec<Offered>,
    requests: VecDeque<S::Request>,
    responses: VecDeque<S::Response>,
    last_word: Option<Heard>,
}

impl<S: Wire> World<S> {
    fn new() -> Self {
        let mut world = Self {
            offered: NAMES.iter().map(|name| ((*name).to_owned(), "0".to_owned())).collect(),
            versions: 0,
            client: Client { wanted: BTreeSet::from(["a".to_owned()]), ..Client::default() },
            session: S::default(),
            sent: Vec::new(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            last_word: None,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        (self.session, self.sent) = (S::default(), Vec::new());
        self.requests.clear();
        self.responses.clear();
        self.client.nonce.clear();
        // A client without names would ask for all; none of ours does.
        if self.client.wanted.is_empty() {
            self.client.wanted.insert("a".to_owned());
            self.offered.entry("a".to_owned()).or_insert_with(|| "back".to_owned());
        }
        self.requests.push_back(S::first(&self.client));
    }

    fn step(&mut self, event: &Event) {
        match event {
            Event::Change(at) => {
                self.versions += 1;
                if let Some(version) = self.offered.get_mut(NAMES[*at]) {
                    *version = self.versions.to_string();
                }
            }
            Event::Toggle(at) if S::REMOVES => {
                self.versions += 1;
                let name = NAMES[*at].to_owned();
                if self.offered.remove(&name).is_none() {
                    self.offered.insert(name, self.versions.to_string());
                }
            }
            Event::Toggle(_) => {}
            Event::Want(at) => self.want(NAMES[*at]),
            Event::Hear => {
                if let Some(request) = self.requests.pop_front() {
                    self.last_word = Some(self.session.take(request).unwrap());
                }
            }
            Event::Look => self.look(),
            Event::Take { refuses } => self.receive(*refuses),
            Event::Reconnect => self.connect(),
        }
    }

    fn want(&mut self, name: &str) {
        if !self.client.wanted.remove(name) {
            self.client.wanted.insert(name.to_owned());
        } else if self.client.wanted.is_empty() {
            self.client.wanted.insert(name.to_owned());
            return;
        }
        self.client.has.remove(name);
        self.client.refused.retain(|(refused, _)| refused != name);
        self.requests.push_back(S::changed(&self.client, name));
    }

    fn look(&mut self) {
        if self.session.asked().is_none() {
            return;
        }
        match look(&mut self.session, &self.offered) {
            Ok(None) => {}
            Ok(Some(response)) => {
                let wanted = self.session.asked().unwrap().0.clone();
                let mut sent = self.offered.clone();
                sent.retain(|name, _| wanted.names.contains(name));
                self.sent.push(sent);
                self.responses.push_back(response);
            }
            // The client gives up on what it has no right to, and comes back.
            Err(Refused::Unknown(unknown) | Refused::Lost(unknown)) => {
                self.client.wanted.retain(|name| !unknown.contains(name));
                self.client.has.retain(|name, _| !unknown.contains(name));
                self.connect();
            }
        }
    }

    fn receive(&mut self, refuses: bool) {
        let Some(response) = self.responses.pop_front() else { return };
        let (nonce, secrets, removed) = S::read(&response, &self.sent);
        let refuses = refuses && !secrets.is_empty();
        for name in removed {
            self.client.has.remove(&name);
        }
        for (name, version) in secrets.into_iter().filter(|(name, _)| self.client.wanted.contains(name)) {
            if refuses {
                self.client.refused.insert((name, version));
            } else {
                self.client.has.insert(name, version);
            }
        }
        self.client.nonce.clone_from(&nonce);
        self.requests.push_back(S::word(&self.client, &nonce, refuses));
    }

    /// Everything on the wire arrives, and nothing is refused any more.
    fn settle(&mut self) {
        for _ in 0..200 {
            while !self.requests.is_empty() {
                self.step(&Event::Hear);
            }
            self.look();
            if self.responses.is_empty() && self.requests.is_empty() {
                return;
            }
            while !self.responses.is_empty() {
                self.receive(false);
            }
        }
        panic!("it goes on and on");
    }

    fn check(&self, is_complete: bool) {
        for name in &self.client.wanted {
            let (newest, has) = (self.offered.get(name), self.client.has.get(name));
            let refused =
                newest.is_some_and(|version| self.client.refused.contains(&(name.clone(), version.clone())));
            assert!(newest == has || (refused && !is_complete), "{name}: {newest:?}, the client has {has:?}");
        }
    }
}

fn run<S: Wire>(events: &[Event]) {
    let mut world = World::<S>::new();
    for event in events {
        world.step(event);
    }
    world.settle();
    world.check(false);
    // What was refused comes with its next version, and the last word is one of consent.
    for at in 0..NAMES.len() {
        world.step(&Event::Change(at));
    }
    world.last_word = None;
    world.settle();
    world.check(true);
    let is_sent = world.client.wanted.iter().any(|name| world.offered.contains_key(name));
    assert!(!is_sent || world.last_word == Some(Heard::Acknowledged), "{:?}", world.last_word);
}

proptest! {
    #[test]
    fn sd_02_any_order_of_events_ends_with_the_newest_state_acknowledged(events in events()) {
        run::<Whole>(&events);
        run::<Delta>(&events);
    }
}
