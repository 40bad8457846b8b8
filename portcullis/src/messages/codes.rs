//! The registry of message codes: what `portcullis code` answers, and what every code in the source must be in.

mod identity;
mod ledger;

/// A code and what it means. Codes are API: never reused, never renamed.
pub(crate) struct Code {
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
}

/// The registry, in order.
pub(crate) fn codes() -> impl Iterator<Item = &'static Code> {
    CODES.iter().chain(identity::CODES).chain(FURTHER).chain(ledger::CODES)
}

/// Those of commands and of the configuration.
static CODES: &[Code] = &[
    Code {
        code: "PC0101",
        title: "the configuration is not valid TOML",
        text: "The file could not be read as TOML at the place shown.",
    },
    Code {
        code: "PC0102",
        title: "a required key is missing",
        text: "The section is there, and this key has no default.",
    },
    Code {
        code: "PC0103",
        title: "unknown key",
        text: "Unknown keys refuse to start, so that a typing error cannot switch a protection off.",
    },
    Code { code: "PC0104", title: "wrong value", text: "The value has the wrong type, unit or range." },
    Code {
        code: "PC0105",
        title: "dangling reference",
        text: "A key names something that the file does not define.",
    },
    Code { code: "PC0106", title: "defined twice", text: "Two objects carry the same name or address." },
    Code {
        code: "PC0107",
        title: "file cannot be read",
        text: "The file is missing, unreadable, too large or not UTF-8.",
    },
    Code {
        code: "PC0108",
        title: "unsafe permissions",
        text: "A file or directory can be changed by others; portcullis refuses to trust it.",
    },
    Code {
        code: "PC0110",
        title: "unknown environment variable",
        text: "A variable begins with PORTCULLIS_ and names no key; it is ignored.",
    },
    Code {
        code: "PC0120",
        title: "the file and the process differ",
        text: "The configuration on disk is not the one in force: nobody has reloaded it yet, or the reload refused it.",
    },
    Code {
        code: "PC0121",
        title: "a restart is needed",
        text: "The file changes a key that a running process cannot change; nothing of the file was brought into force.",
    },
    Code {
        code: "PC0122",
        title: "an upgrade failed",
        text: "The process that was to take over could not: the one that ran goes on. Its status says why.",
    },
    Code {
        code: "PC0131",
        title: "admin listener beyond loopback",
        text: "The admin listener has no client certificates, so it binds to loopback only.",
    },
    Code {
        code: "PC0132",
        title: "policies over the network",
        text: "A publisher on another host is followed by who joined it: `[join]` in place of `[policies]`. `follow` names the admin socket of a process on this host.",
    },
    Code {
        code: "PC0140",
        title: "no running portcullis",
        text: "The command talks to a running process over its admin socket and found none.",
    },
    Code {
        code: "PC0141",
        title: "refused by the running portcullis",
        text: "The API answered with an error; its own text follows.",
    },
    Code { code: "PC0142", title: "timed out", text: "What was waited for did not happen in time." },
    Code { code: "PC0150", title: "exists already", text: "init never overwrites a file." },
];

/// What comes after those of identities.
static FURTHER: &[Code] = &[
    Code {
        code: "PC2001",
        title: "not a policy",
        text: "The text cannot be read as Cedar. The last good set of policies stays in force, as after every code from PC2001 to PC2020.",
    },
    Code {
        code: "PC2002",
        title: "policy does not fit the schema",
        text: "A policy or a case names a type, attribute or action that the schema does not have, or compares what cannot be equal.",
    },
    Code {
        code: "PC2003",
        title: "not an entity, or doubtful",
        text: "An entity cannot be read or does not fit the schema; as a warning: Cedar doubts that a policy means what it says.",
    },
    Code {
        code: "PC2004",
        title: "one interface, two services",
        text: "Two services offer the same RPC interface; a permit for one would reach the other. Give each its own `rpc_scope`.",
    },
    Code {
        code: "PC2005",
        title: "closed name redefined",
        text: "The first part of the schema belongs to portcullis; a site adds to it and does not redefine it.",
    },
    Code {
        code: "PC2006",
        title: "credential declared",
        text: "Headers that carry credentials cannot be declared as facts, so no policy and no record can hold them.",
    },
    Code {
        code: "PC2007",
        title: "unknown annotation or value",
        text: "An annotation has a name or a value that portcullis does not know.",
    },
    Code {
        code: "PC2008",
        title: "a forbid cannot expire",
        text: "`@expires` on a forbid would open what it closes just because time passes.",
    },
    Code {
        code: "PC2009",
        title: "not a schema",
        text: "The schema cannot be read, or declares a fact in a shape that facts do not have.",
    },
    Code {
        code: "PC2010",
        title: "too large",
        text: "A policy, a set, an entity list or a pattern is above its limit; limit and value are named.",
    },
    Code {
        code: "PC2011",
        title: "not supported",
        text: "The text is Cedar, but of a kind that portcullis does not take.",
    },
    Code {
        code: "PC2012",
        title: "one name, two sources",
        text: "Two sources define the same entity, so neither can be trusted.",
    },
    Code {
        code: "PC2013",
        title: "policy directory cannot be read",
        text: "The directory or a file in it is missing or unreadable, or changes faster than it can be read.",
    },
    Code {
        code: "PC2014",
        title: "file left out",
        text: "A file of the policy directory has a name or a place in which it is not read.",
    },
    Code {
        code: "PC2015",
        title: "link that fills no template",
        text: "A *.links.json file is no list of links, names a template that is not there, or gives values that are not those of its slots.",
    },
    Code {
        code: "PC2016",
        title: "a case failed",
        text: "A case of a *_test.json expects another decision than the policies give. Either the policies or the case are wrong.",
    },
    Code {
        code: "PC2020",
        title: "version cannot be stored",
        text: "A version that is not on disk is not put into force.",
    },
    Code {
        code: "PC2021",
        title: "snapshot is not signed by a pinned key",
        text: "What came from the publisher was changed on the way, or signed by a key that `[policies] signer` does not name. Nothing of it is used.",
    },
    Code {
        code: "PC2022",
        title: "snapshot is not understood",
        text: "The publisher is newer than this enforcer: its manifest has a format, field, kind or language that this build does not know. It is refused as a whole.",
    },
    Code {
        code: "PC2023",
        title: "snapshot is incomplete or damaged",
        text: "An object of the snapshot is missing, or its bytes are not those that its hash names. The publisher is asked again.",
    },
    Code {
        code: "PC2024",
        title: "snapshot does not come after the one in force",
        text: "Numbers only grow, along one chain: an older snapshot, or another one under the same number, is a replay or a fork. A rollback has a higher number; a restored store raises its epoch.",
    },
    Code {
        code: "PC2025",
        title: "snapshot does not fit this enforcer",
        text: "The snapshot of the publisher does not compile together with the services, methods and routes of this process. The findings beside it say where.",
    },
    Code {
        code: "PC2026",
        title: "shipped cases fail",
        text: "The system policies of the publisher do not mean here what the shipped cases say, so its snapshot is not used.",
    },
    Code {
        code: "PC2027",
        title: "snapshot file cannot be used",
        text: "A file of the last good snapshot is damaged (it is renamed to *.bad) or not signed by a pinned key; the one before it is used.",
    },
    Code {
        code: "PC2028",
        title: "snapshot file cannot be written",
        text: "The snapshot is enforced from memory; a restart without the publisher would begin with the one before it.",
    },
    Code {
        code: "PC2030",
        title: "case fails",
        text: "A case beside the policies says something else than they do. Policies whose cases fail are not put into force.",
    },
    Code {
        code: "PC2031",
        title: "nobody could change policies",
        text: "With these policies no operator could draft, publish or roll back any more, so that only a restore would help.",
    },
    Code {
        code: "PC2040",
        title: "the checks of a change did not pass",
        text: "A change is committed only when it compiles and every case passes; all findings are shown. Nothing was put into force.",
    },
    Code {
        code: "PC2041",
        title: "the change was written meanwhile",
        text: "Somebody wrote the change after it was read, or it was not said which revision is meant (If-Match). Read it again.",
    },
    Code {
        code: "PC2042",
        title: "not in this state",
        text: "A newer version was committed or is in force, or the change has ended; the answer names it.",
    },
    Code {
        code: "PC2043",
        title: "a change that you may not make alone",
        text: "A policy about changes of policies forbids it: a second person has to approve, or the change belongs to its author.",
    },
    Code {
        code: "PC2044",
        title: "no such policy, version or change",
        text: "Nothing of that name is kept. Versions are kept while they are in force, among the last hundred, or named by a record.",
    },
    Code {
        code: "PC2045",
        title: "directory and version differ",
        text: "A version was activated, or gone back to, after the files of the directory were saved. They count again when they are saved again; `policy pull` writes the version into the directory.",
    },
    Code {
        code: "PC2046",
        title: "a key would sign no more",
        text: "Two keys sign at a time: the newest, and the one before it. Another rotation drops the older one, and a follower that pins it takes nothing new until its `signer` names a key that signs.",
    },
    Code {
        code: "PC2047",
        title: "the key belongs to another call",
        text: "An Idempotency-Key names one call of its caller for 24 hours. The same key with another path, revision or body does nothing; use a new key for a new call.",
    },
    Code {
        code: "PC2048",
        title: "the call with this key has no answer to repeat",
        text: "It is still running, or the process ended while it ran, or its answer was too large to be kept. It is not done a second time; the text says which it is.",
    },
    Code {
        code: "PC2049",
        title: "too many keys",
        text: "A bounded number of Idempotency-Keys is kept, each for 24 hours. Calls without a key are taken as always.",
    },
    Code {
        code: "PC2060",
        title: "no permit would help",
        text: "A permit is suggested for calls that policies refused because no permit matched. A forbid is not lifted by a permit: ask its owner.",
    },
    Code {
        code: "PC2101",
        title: "policy without a good id",
        text: "Every policy carries an `@id`; records and explanations name it.",
    },
    Code { code: "PC2102", title: "id used twice", text: "Two policies carry the same `@id`." },
    Code {
        code: "PC2103",
        title: "permit for everybody",
        text: "The permit names no principal, no action, no resource and no condition. Say who may do what.",
    },
    Code {
        code: "PC2104",
        title: "nothing offers this",
        text: "The policy names a method, route, service or action that no configured service offers, so it never applies. Names are case-sensitive; look for a typing error, or register what is missing.",
    },
    Code {
        code: "PC2105",
        title: "policy that nothing matched",
        text: "No recorded call matched the policy in the time shown. What nobody needs should not be granted; a forbid may still be a fence.",
    },
    Code {
        code: "PC2106",
        title: "permit that is always overruled",
        text: "A forbid refuses all that this permit allows, so it grants nothing. Remove the permit or narrow the forbid; a shipped permit that is overruled may cut off health checks and metrics.",
    },
    Code {
        code: "PC2107",
        title: "optional attribute without a guard",
        text: "The attribute or tag is not always there. Ask for it first: `x has a && x.a == ..`, `x.hasTag(\"t\") && x.getTag(\"t\") == ..`. `portcullis policy lint --fix` writes the guard.",
    },
    Code {
        code: "PC2108",
        title: "pattern on a path",
        text: "`*` in `like` also matches `/`, so `/orders/*/items` matches deeper paths too. Test `context.request.segments`; only `/prefix/*` means what it shows.",
    },
    Code {
        code: "PC2109",
        title: "SPIFFE path compared as text",
        text: "Who may have such a path is decided elsewhere and changes. Put the callers into a group and test `principal in Group::..`, or name the caller.",
    },
    Code {
        code: "PC2110",
        title: "forbid without an owner",
        text: "A refused caller needs somebody to ask: write `@owner(\"team\")`. `explain` shows it.",
    },
    Code {
        code: "PC2111",
        title: "no such context field",
        text: "The context of an action that this policy covers has no such field. `portcullis schema show` lists the fields; headers, query members and captures are declared by the site's part of the schema.",
    },
    Code {
        code: "PC2112",
        title: "one of several values",
        text: "`contains` on a header or query value is true when a second value is there as well, and the service may use that one. Compare the whole set, `== [\"value\"]`; `portcullis policy lint --fix` does where it is safe.",
    },
    Code {
        code: "PC2113",
        title: "permit for every caller",
        text: "The permit is for every workload, every user or a whole trust domain, also for those that come later. Name a group or the callers.",
    },
    Code {
        code: "PC2114",
        title: "cases do not cover the policy",
        text: "The cases show less of the policy than is asked for. `portcullis policy test --coverage` lists what no case shows.",
    },
    Code {
        code: "PC2115",
        title: "anonymous callers may write",
        text: "The permit lets callers without an identity do what changes things. Limit the action to `http:read`, or ask for an identity.",
    },
    Code {
        code: "PC2116",
        title: "forbid that can error",
        text: "A forbid that cannot be evaluated denies. Arithmetic can overflow, and a tag can be missing; compare without arithmetic, ask `hasTag` first.",
    },
    Code {
        code: "PC2117",
        title: "old shadow policy",
        text: "The policy is in shadow mode for more than 30 days: evaluated, recorded, never enforced. Let it go live or remove it.",
    },
    Code {
        code: "PC2118",
        title: "permit that ends",
        text: "`@expires` has passed or is less than 14 days away; from then on the permit grants nothing.",
    },
    Code {
        code: "PC2119",
        title: "condition on time for streams",
        text: "Calls that can run long are judged again every 10 seconds when a condition reads the time, and end when it no longer holds.",
    },
    Code {
        code: "PC2120",
        title: "policy that is not compiled",
        text: "The condition uses something that the compiler leaves to stock Cedar. The verdict is the same; each call that the policy may match takes microseconds instead of nanoseconds.",
    },
    Code {
        code: "PC2121",
        title: "characters that deceive",
        text: "A name or text mixes alphabets, turns direction, hides characters or is not in Unicode's composed form (NFC): it looks like another one and is not. In an entity id this is an error.",
    },
    Code {
        code: "PC4001",
        title: "listener cannot start",
        text: "A listener could not be bound or configured.",
    },
    Code {
        code: "PC4002",
        title: "sockets and listeners do not fit",
        text: "The service manager gave sockets that are no listener's, or not those of every listener.",
    },
    Code {
        code: "PC4030",
        title: "observe mode is on",
        text: "Calls that policies deny are let through and recorded as would-be denials.",
    },
];

/// Looks a code up, as `portcullis help PC0103` does.
pub(crate) fn find(code: &str) -> Option<&'static Code> {
    codes().find(|known| known.code.eq_ignore_ascii_case(code))
}
